"""Recall of an approximate self-join, measured against exact search on a sample of its queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.blocks import search_blocks
from curation.algorithms.knn.exact import merge
from curation.algorithms.knn.pair_merge import merged_pairs
from curation.algorithms.knn.pairs import candidates_of_pairs
from curation.algorithms.knn.sample import read_sample, sample_fragments
from curation.engine.context import Context
from curation.store.fragment import Fragment

SIMILARITY_BANDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Similarities from which recall is also reported, if they are above the floor of the join."""

Pair = tuple[bytes, bytes]
"""Image ids of a query and of its neighbour."""


class JoinRecall:
    """Measures the recall of a self-join on sampled queries.

    Args:
        role: role whose images are joined with each other.
        fragments: the vectors of the role, by name.
        context: where workers run.

    Attributes:
        query_ids: image ids of the sampled queries, sorted.
    """

    def __init__(self, role: str, fragments: Mapping[str, Fragment], context: Context) -> None:
        self._role, self._fragments, self._context = role, fragments, context
        self._sample: dict[str, Fragment] = {}
        self.query_ids: Ids = np.empty(0, "S32")

    def sample_queries(self, queries: int, seed: int) -> None:
        """Draw a seeded sample of about `queries` queries."""
        self._sample = sample_fragments(self._fragments, queries, seed, self._context)
        self.query_ids = np.unique(read_sample(self._sample)[0])

    def measure(
        self, options: Mapping[str, float], found_pairs: Iterable[pa.Table]
    ) -> dict[str, Any]:
        """Return the share of true neighbours of the sampled queries that the join found.

        Args:
            options: `k` and `floor` (smallest similarity) of the join.
            found_pairs: PAIRS that the join found, at least those of the sampled queries.

        Returns:
            `recall_queries`, the number of queries; `recall` of all neighbours above the floor; and
            `recall_from`, the recall of neighbours from each of SIMILARITY_BANDS on. A recall is None
            if there is no such neighbour.
        """
        k = int(options["k"])
        true_pairs = self._true_pairs(options)
        query_ids = from_ids(self.query_ids)
        sampled = [
            table.filter(pc.is_in(table.column("query_id"), query_ids)) for table in found_pairs
        ]
        joined = {pair for pair, _ in _nearest_others(sampled, k)}

        def recall_from(similarity: float) -> float | None:
            # Similarities are float32, so the bound is rounded like them, as the floor of the join is.
            bound = float(np.float32(similarity))
            wanted = [pair for pair, value in true_pairs if value >= bound]
            return sum(pair in joined for pair in wanted) / len(wanted) if wanted else None

        bands = [band for band in SIMILARITY_BANDS if band > options["floor"]]
        return {
            "recall_queries": len(self.query_ids),
            "recall": recall_from(options["floor"]),
            "recall_from": {str(band): recall_from(band) for band in bands},
        }

    def _true_pairs(self, options: Mapping[str, float]) -> list[tuple[Pair, float]]:
        """Return the k nearest others of each sampled query by exact search, with their similarity."""
        by_role = {"sample": self._sample, self._role: dict(self._fragments)}
        # One more than k, because a query finds itself.
        k = int(options["k"]) + 1
        role_pairs = [("sample", self._role)]
        exact_options = dict(options) | {"k": k}
        searched = search_blocks(by_role, role_pairs, exact_options, self._context, "recall")
        nearest = merged_pairs(searched, role_pairs, k, self._context)
        return _nearest_others([table for *_, table in nearest], k - 1)


def _nearest_others(tables: list[pa.Table], k: int) -> list[tuple[Pair, float]]:
    """Return the k nearest other images of each query in PAIRS, with their similarity."""
    if not tables:
        return []
    query_ids, candidates = candidates_of_pairs(pa.concat_tables(tables))
    best = merge([candidates.without_self(query_ids)], k)
    pairs = zip(query_ids[best.query].tolist(), best.ids.tolist(), strict=True)
    return list(zip(pairs, best.similarity.tolist(), strict=True))
