"""The inputs of dedup in parts, and how they are divided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from curation.engine.exchange import split_by_file
from curation.engine.table import Table
from curation.engine.task_groups import split_by_rows
from curation.stages.dedup.decide import similarity_thresholds
from curation.stages.dedup.fetched_rows import held_out_sets
from curation.stages.dedup.params import DedupParams
from curation.store.fragment import Fragment

ROWS_PER_PART = 500_000
"""Rows that a worker reads or decides at once: some hundred MB with their captions."""


@dataclass(frozen=True)
class PartitionedInputs:
    """The inputs of dedup, and how they are divided into parts.

    Attributes:
        tables: images, neighbours, verified and, if equal pixels make copies, scores.
        params: of the stage.
    """

    tables: Mapping[str, Table]
    params: DedupParams

    @cached_property
    def parts(self) -> int:
        """Number of parts."""
        return max(1, -(-self.tables["images"].rows // ROWS_PER_PART))

    @cached_property
    def held_out_sets(self) -> list[str]:
        """Names of the held-out sets."""
        return held_out_sets(self.tables["images"])

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """The smallest similarity of any edge, by method."""
        of_all, of_held_out = similarity_thresholds(self.params, self.held_out_sets)
        return {method: min(of_all[method], of_held_out[method]) for method in of_all}

    @cached_property
    def fragment_groups(self) -> list[list[Fragment]]:
        """Fragments of `images` in groups; one task reads, or writes, the fragments of a group."""
        return split_by_rows(self.tables["images"].fragments.values(), ROWS_PER_PART) or [[]]

    @cached_property
    def scores(self) -> Mapping[str, Fragment]:
        """The fragments of `scores` by name; none if equal pixels do not make copies."""
        return self.tables["scores"].fragments if "scores" in self.tables else {}

    def scores_of(self, group: list[Fragment]) -> list[Fragment] | None:
        """Return the scores of some fragments; None if equal pixels do not make copies."""
        return [self.scores[fragment.name] for fragment in group] if self.scores else None

    def files(self, table: str) -> list[Fragment]:
        """Return each file of a table, to be read by a task of its own."""
        return split_by_file(self.tables[table].fragments.values())
