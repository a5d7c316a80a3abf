"""How many fragments a task indexes while it reads the codebooks once."""

from __future__ import annotations

from collections.abc import Mapping

from curation.engine.table import Table
from curation.stages.index.params import IndexStep


def bytes_at_once(embeddings: Mapping[str, Table], codebooks: Table, *, params: IndexStep) -> int:
    """Return how many bytes of embeddings a task indexes, at most, one fragment after another.

    They are as many as the codebooks have: all tasks together then read no more of codebooks than of
    vectors.
    """
    fragments = codebooks.fragments.values()
    return max(1, sum(file.size for fragment in fragments for file in fragment.record.files))
