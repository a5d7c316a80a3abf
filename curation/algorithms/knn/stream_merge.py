"""Merges what the slices of the pool have for each query, on workers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.exact import Candidates, merge
from curation.algorithms.knn.queries import QueryBlock
from curation.algorithms.knn.search_plan import SearchLimits
from curation.algorithms.knn.streams import CANDIDATES, BlockCandidates, candidates_of
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment


class MergeRange(NamedTuple):
    """How the queries of a block are divided among tasks.

    Attributes:
        block: the queries.
        first: number of the first task.
        rows: queries of a task.
    """

    block: QueryBlock
    first: int
    rows: int

    @property
    def end(self) -> int:
        """Number after that of the last task."""
        return self.first + -(-self.block.rows // self.rows)


class Merged(NamedTuple):
    """The nearest images of some queries.

    Attributes:
        candidates: the queries are numbered by their place in `ids`.
        ids: image id of each query.
        sets: numbers of the seed sets of each query, a list for each.
    """

    candidates: Candidates
    ids: Ids
    sets: pa.Array


def merge_exchange(
    candidates: Sequence[BlockCandidates],
    function: Callable[..., StageOutput],
    arguments: Mapping[str, Any],
    limits: SearchLimits,
) -> Exchange:
    """Return the exchange that brings together what all slices have for a query.

    Args:
        candidates: of `search_pool`.
        function: called with `candidates`, CANDIDATES of some queries, with `ranges` and `part` for
            `merge_part`, with `batch_rows`, and with the arguments.
        arguments: further arguments of the function.
        limits: bound the candidates of a task.
    """
    ranges, first = [], 0
    for block, slices in candidates:
        rows = max(1, limits.merged_rows // (block.k * max(1, len(slices))))
        ranges.append(MergeRange(block, first, rows))
        first = ranges[-1].end
    tasks = [
        MapTask(
            read_candidates,
            {
                "candidates": fragment,
                "first": merge_range.first,
                "rows": merge_range.rows,
                "batch_rows": limits.batch_rows,
            },
        )
        for merge_range, (_, slices) in zip(ranges, candidates, strict=True)
        for fragment in slices
    ]
    return Exchange(
        "merge",
        {"candidates": ExchangeInput(CANDIDATES, tasks)},
        function,
        first,
        {"ranges": tuple(ranges), "batch_rows": limits.batch_rows} | dict(arguments),
        pass_part=True,
    )


def read_candidates(
    candidates: Fragment, first: int, rows: int, batch_rows: int
) -> Iterator[pa.Table]:
    """Yield CANDIDATES of a block, keyed by the task that merges their query.

    Args:
        candidates: what a slice of the pool has.
        first: number of the first task of the block.
        rows: queries of a task.
        batch_rows: rows that are sent at once.
    """
    for batch in candidates.batches(rows=batch_rows):
        key = batch.column("query").to_numpy() // rows + first
        table = pa.Table.from_batches([batch])
        yield table.append_column(KEY, pa.array(key.astype(np.uint64)))


def merge_part(candidates: pa.Table, ranges: Sequence[MergeRange], part: int) -> Merged:
    """Return the k nearest images of the queries of a task.

    Args:
        candidates: CANDIDATES of these queries, of all slices.
        ranges: how queries are divided among tasks.
        part: number of the task.
    """
    block, first, rows = ranges[bisect_right([r.first for r in ranges], part) - 1]
    start = (part - first) * rows
    ids, sets = block.members(start, min(start + rows, block.rows))
    best = merge([candidates_of(candidates)], block.k)
    return Merged(Candidates(best.query - start, best.ids, best.similarity), ids, sets)
