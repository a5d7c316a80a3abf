"""Merges the pairs that were found in cells or blocks into the k nearest images of each query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.knn.exact import merge
from curation.algorithms.knn.pairs import (
    JOIN_PAIRS,
    RolePairs,
    candidates_of_pairs,
    number_pairs,
    pairs_batch,
)
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

PAIRS_PER_MERGE = 2_000_000
"""Pairs that one task merges, about. Each needs some 300 bytes while pairs are sorted."""
PAIRS_PER_MESSAGE = PAIRS_PER_MERGE // 4
"""Pairs that a task reads and sends at once."""


def merge_exchange(
    readings: Sequence[MapTask],
    rows: int,
    function: Callable[..., StageOutput],
    arguments: Mapping[str, Any],
) -> Exchange:
    """Return the exchange that brings together all pairs of a query.

    Args:
        readings: tasks that yield JOIN_PAIRS, keyed by query as `key_by_query` does.
        rows: how many pairs they yield.
        function: called with `pairs`, all JOIN_PAIRS of some queries, and with the arguments.
        arguments: further arguments of the function, `k` among them.
    """
    parts = max(1, -(-rows // PAIRS_PER_MERGE))
    inputs = {"pairs": ExchangeInput(JOIN_PAIRS, readings)}
    return Exchange("merge", inputs, function, parts, arguments)


def pair_readings(pairs: Sequence[Fragment]) -> list[MapTask]:
    """Return the tasks that read work tables of JOIN_PAIRS, for `merge_exchange`."""
    return [
        MapTask(read_pairs, {"pairs": some}) for some in split_by_rows(pairs, PAIRS_PER_MESSAGE)
    ]


def read_pairs(pairs: Sequence[Fragment]) -> Iterator[pa.Table]:
    """Yield JOIN_PAIRS, keyed by query."""
    for fragment in pairs:
        for batch in fragment.batches(rows=PAIRS_PER_MESSAGE):
            yield key_by_query(batch)


def key_by_query(pairs: pa.RecordBatch) -> pa.Table:
    """Return JOIN_PAIRS with keys that bring all pairs of a query together."""
    keys = seeded_keys(to_ids(pairs.column("query_id")), "query")
    return pa.Table.from_batches([pairs]).append_column(KEY, pa.array(keys))


def nearest_by_role_pair(pairs: pa.Table, k: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the k nearest images of each query.

    Args:
        pairs: all JOIN_PAIRS of some queries.
        k: neighbours of each query.

    Yields:
        Number of the pair of roles, and PAIRS sorted by query.
    """
    numbers = pairs.column("role_pair")
    for number in np.unique(numbers.to_numpy()).tolist():
        query_ids, candidates = candidates_of_pairs(pairs.filter(pc.equal(numbers, number)))
        yield number, pairs_batch(query_ids, merge([candidates], k))


def merge_pairs(pairs: pa.Table, k: int) -> StageOutput:
    """Keep the k nearest images of each query.

    Args:
        pairs: all JOIN_PAIRS of some queries.
        k: neighbours of each query.

    Yields:
        JOIN_PAIRS.
    """
    yield empty_batch(JOIN_PAIRS)
    for number, nearest in nearest_by_role_pair(pairs, k):
        yield number_pairs(nearest, np.full(len(nearest), number, np.int32))
    return None


def merged_pairs(
    tables: Sequence[Fragment], role_pairs: RolePairs, k: int, context: Context
) -> Iterator[tuple[str, str, pa.Table]]:
    """Read the k nearest images of each query, on this machine.

    Args:
        tables: work tables of JOIN_PAIRS.
        role_pairs: the roles that were joined.
        k: neighbours of each query.
        context: where workers run.

    Yields:
        (role of the queries, role of the base, PAIRS).
    """
    rows = sum(fragment.rows for fragment in tables)
    job = merge_exchange(pair_readings(tables), rows, merge_pairs, {"k": k})
    for part in exchange_tables(job, context):
        table = part.read()
        for number, (query_role, base_role) in enumerate(role_pairs):
            pairs = table.filter(pc.equal(table.column("role_pair"), number))
            if len(pairs):
                yield query_role, base_role, pairs.drop_columns(["role_pair"])
