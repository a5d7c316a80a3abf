"""Merges the pairs that were found in cells into the k nearest images of each query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.knn.blocks import RolePairs, candidates_of_pairs, pairs_batch
from curation.algorithms.knn.cells import CELL_PAIRS, number_pairs, search_cells
from curation.algorithms.knn.exact import merge
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
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
        readings: tasks that yield CELL_PAIRS, keyed by query as `key_by_query` does.
        rows: how many pairs they yield.
        function: called with `cell_pairs`, all CELL_PAIRS of some queries, and with the arguments.
        arguments: further arguments of the function, `k` among them.
    """
    parts = max(1, -(-rows // PAIRS_PER_MERGE))
    inputs = {"cell_pairs": ExchangeInput(CELL_PAIRS, readings)}
    return Exchange("merge", inputs, function, parts, arguments)


def cell_pairs_readings(cell_pairs: Sequence[Fragment]) -> list[MapTask]:
    """Return the tasks that read work tables of `search_cells`, for `merge_exchange`."""
    return [MapTask(read_cell_pairs, {"cell_pairs": fragment}) for fragment in cell_pairs]


def read_cell_pairs(cell_pairs: Fragment) -> Iterator[pa.Table]:
    """Yield CELL_PAIRS, keyed by query."""
    for batch in cell_pairs.batches(rows=PAIRS_PER_MESSAGE):
        yield key_by_query(batch)


def key_by_query(cell_pairs: pa.RecordBatch) -> pa.Table:
    """Return CELL_PAIRS with keys that bring all pairs of a query together."""
    keys = seeded_keys(to_ids(cell_pairs.column("query_id")), "query")
    return pa.Table.from_batches([cell_pairs]).append_column(KEY, pa.array(keys))


def nearest_by_role_pair(cell_pairs: pa.Table, k: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the k nearest images of each query.

    Args:
        cell_pairs: all CELL_PAIRS of some queries.
        k: neighbours of each query.

    Yields:
        Number of the pair of roles, and PAIRS sorted by query.
    """
    numbers = cell_pairs.column("role_pair")
    for number in np.unique(numbers.to_numpy()).tolist():
        query_ids, candidates = candidates_of_pairs(cell_pairs.filter(pc.equal(numbers, number)))
        yield number, pairs_batch(query_ids, merge([candidates], k))


def merge_cell_pairs(cell_pairs: pa.Table, k: int) -> StageOutput:
    """Keep the k nearest images of each query.

    Args:
        cell_pairs: all CELL_PAIRS of some queries.
        k: neighbours of each query.

    Yields:
        CELL_PAIRS.
    """
    yield empty_batch(CELL_PAIRS)
    for number, pairs in nearest_by_role_pair(cell_pairs, k):
        yield number_pairs(pairs, np.full(len(pairs), number, np.int32))
    return None


def cell_join(
    by_role: Mapping[str, Mapping[str, Fragment]],
    role_pairs: RolePairs,
    options: Mapping[str, float],
    codebooks: Fragment,
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Join vectors by cells.

    Args:
        by_role: fragments of vectors, by role and by name.
        role_pairs: roles to join.
        options: `k`, `floor` (smallest similarity) and `spread` (cells of each vector).
        codebooks: of the quantiser, a work table.
        context: where workers run.

    Yields:
        (role of the queries, role of the base, PAIRS).
    """
    cell_pairs = search_cells(by_role, role_pairs, options, codebooks, context)
    readings = cell_pairs_readings(cell_pairs)
    rows = sum(fragment.rows for fragment in cell_pairs)
    job = merge_exchange(readings, rows, merge_cell_pairs, {"k": int(options["k"])})
    for part in exchange_tables(job, context):
        table = part.read()
        for number, (query_role, base_role) in enumerate(role_pairs):
            pairs = table.filter(pc.equal(table.column("role_pair"), number))
            if len(pairs):
                yield query_role, base_role, pairs.drop_columns(["role_pair"])
