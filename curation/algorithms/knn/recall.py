"""Recall of a join that is not exact: what an exact search finds for a sample of its queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.blocks import block_join, pairs_of
from curation.algorithms.knn.exact import Candidates, merge
from curation.algorithms.knn.sample import read_sample, sampled_rows
from curation.engine.context import Context
from curation.engine.fragment import Fragment

BANDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Similarities from which recall is told apart, where they lie above the floor."""


class Recall:
    """Knows sampled queries of a self-join, and which part of their nearest it finds."""

    def __init__(self, role: str, fragments: Mapping[str, Fragment], context: Context) -> None:
        self._role, self._fragments, self._context = role, fragments, context
        self._sample: dict[str, Fragment] = {}
        self.ids: Ids = np.empty(0, "S32")

    def choose(self, queries: int, seed: int) -> None:
        """Draw about as many queries."""
        self._sample = sampled_rows(self._fragments, queries, seed, self._context)
        self.ids = np.unique(read_sample(self._sample)[0])

    def told(self, options: Mapping[str, float], found: Iterable[pa.Table]) -> dict[str, Any]:
        """Return the queries and the part of what is to be found that was found: `recall` above the
        floor, `recall_from` by similarity (None where nothing is to be found).

        Args:
            options: k and floor of the join.
            found: PAIRS that it found, those of the queries at least.
        """
        wanted = from_ids(self.ids)
        seen = [own.filter(pc.is_in(own.column("query_id"), wanted)) for own in found]
        by_role = {"sample": self._sample, self._role: dict(self._fragments)}
        more = dict(options) | {"k": options["k"] + 1}
        sought = [("sample", self._role)]
        exact = [table for *_, table in block_join(by_role, sought, more, self._context, "recall")]
        truth = _near(exact, int(options["k"]))
        found = {pair for pair, _ in _near(seen, int(options["k"]))}

        def recall(least: float) -> float | None:
            wanted = [pair for pair, similarity in truth if similarity >= least]
            return sum(pair in found for pair in wanted) / len(wanted) if wanted else None

        bands = [band for band in BANDS if band > options["floor"]]
        return {
            "recall_queries": len(self.ids),
            "recall": recall(options["floor"]),
            "recall_from": {str(band): recall(band) for band in bands},
        }


def _near(tables: list[pa.Table], k: int) -> list[tuple[tuple[bytes, bytes], float]]:
    """Return the k nearest others of each query: pairs of ids with their similarity."""
    if not tables:
        return []
    queries, found = pairs_of(pa.concat_tables(tables))
    other = queries[found.query] != found.ids
    best = merge([Candidates(found.query[other], found.ids[other], found.similarity[other])], k)
    pairs = zip(queries[best.query].tolist(), best.ids.tolist(), strict=True)
    return list(zip(pairs, best.similarity.tolist(), strict=True))
