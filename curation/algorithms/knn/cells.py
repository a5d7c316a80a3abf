"""The join by cells: vectors are compared if they share a cell of one global quantiser.

Each vector is sent to its `spread` nearest cells and is compared with every vector there. Two near
vectors are missed only if they share none of these cells. SemDeDup (Abbas et al. 2023) compares within
one cell, and misses more. A vector crosses the network once for each of its cells. Everything else is
local to a cell. Among the pairs that share a cell the join is exact; the recall over all pairs is
measured on a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, RowNumbers, Vectors, vector_matrix
from curation.algorithms.knn.blocks import (
    PAIRS,
    RolePairs,
    candidates_of_pairs,
    nearest_others,
    pairs_batch,
)
from curation.algorithms.knn.cell_shares import CellTasks, cell_tasks, count_vectors, share_of
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.exact import Base, Candidates, build_base, load_screen, merge
from curation.algorithms.knn.routing import read_routed, route, task_batches
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.sorted_arrays import run_starts, runs
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

BYTES_PER_GROUP = 2**28
"""Bytes of vectors that one task joins, twice that if cells are not equally full. The task needs about
four times that memory."""
PAIRS_PER_MERGE = 2_000_000
"""Pairs that one task merges, about. Each needs some 300 bytes while pairs are sorted."""

CELL_PAIRS = PAIRS.append(pa.field("role_pair", pa.int32()))
"""Pairs found in cells. `role_pair` numbers the pair of roles that was joined."""


def cell_groups(cells: int, total_bytes: float) -> tuple[int, ...]:
    """Divide cells into groups of about BYTES_PER_GROUP each.

    Args:
        cells: number of cells.
        total_bytes: bytes of vectors in all cells.

    Returns:
        The first cell of each group, and after them the number of cells.
    """
    count = int(min(cells, max(1, -(-total_bytes // BYTES_PER_GROUP))))
    return tuple(int(cell) for cell in np.linspace(0, cells, count + 1).round())


def join_cells(
    vectors: pa.Table,
    tasks: CellTasks,
    role_pairs: RolePairs,
    options: Mapping[str, float],
    part: int,
    device: str,
) -> StageOutput:
    """Join the vectors within each cell of a group, or two shares of one cell.

    Args:
        vectors: all vectors that were sent to this task.
        tasks: which task joins what.
        role_pairs: roles to join.
        options: `k` and `floor`, the smallest similarity.
        part: number of the task.
        device: `cpu` or `cuda[:n]`.

    Yields:
        CELL_PAIRS.
    """
    yield empty_batch(CELL_PAIRS)
    group, shares, query_share, base_share = tasks.part(part)
    first, end = tasks.starts[group : group + 2]
    # Every vector is in one of the cells at least, and equally full cells take the fewest products.
    load_screen(len(vectors) ** 2 / (end - first) * _dim_of(vectors))
    joins = _by_base(role_pairs)
    for roles, ids, cell_vectors in _vectors_by_cell(vectors, first, end):
        share = share_of(ids, shares)
        for base_role, numbers in joins.items():
            left = np.isin(roles, list(numbers)) & (share == query_share)
            right = (roles == base_role) & (share == base_share)
            if left.any() and right.any():
                queries = _Queries(roles[left], ids[left], cell_vectors[left])
                base = build_base(cell_vectors[right], ids[right])
                near = queries.nearest(base, base_role, options, device)
                yield queries.pairs(near, numbers)
    return None


def _by_base(role_pairs: RolePairs) -> dict[str, dict[str, int]]:
    """Return the number of each pair of roles, by role of the base and role of the queries."""
    numbers: dict[str, dict[str, int]] = {}
    for number, (query_role, base_role) in enumerate(role_pairs):
        numbers.setdefault(base_role, {})[query_role] = number
    return numbers


class _Queries(NamedTuple):
    """Queries of several roles that are joined with one base in one go.

    Attributes:
        roles: role of each query, (n,).
        ids: image id of each, (n,).
        vectors: unit vectors, (n, dim).
    """

    roles: npt.NDArray[np.str_]
    ids: Ids
    vectors: Vectors

    def nearest(
        self, base: Base, base_role: str, options: Mapping[str, float], device: str
    ) -> Candidates:
        """Return the nearest images of each query. No query of the role of the base finds itself."""
        in_base = self.roles == base_role
        # No image has the empty id.
        excluded = np.where(in_base, self.ids, b"")
        search_options = dict(options) | {"self_join": float(in_base.any())}
        return nearest_others(excluded, self.vectors, base, search_options, device)

    def pairs(self, near: Candidates, numbers: Mapping[str, int]) -> pa.RecordBatch:
        """Return candidates as CELL_PAIRS; `numbers` has that of the pair of roles, by query role."""
        role_pair = np.zeros(len(self.ids), np.int32)
        for role, number in numbers.items():
            role_pair[self.roles == role] = number
        return _numbered(pairs_batch(self.ids, near), role_pair[near.query])


def _numbered(pairs: pa.RecordBatch, role_pair: npt.NDArray[np.int32]) -> pa.RecordBatch:
    """Return PAIRS as CELL_PAIRS, with the number of the pair of roles of each, (n,)."""
    return pa.RecordBatch.from_arrays([*pairs.columns, pa.array(role_pair)], schema=CELL_PAIRS)


def _dim_of(vectors: pa.Table) -> int:
    return int(vectors.schema.field("vector").type.byte_width // 2)


def _vectors_by_cell(
    table: pa.Table, first: int, end: int
) -> Iterator[tuple[npt.NDArray[np.str_], Ids, Vectors]]:
    """Yield the roles, ids and vectors of each cell from `first` to `end` − 1.

    Within a cell an image occurs once for each of its roles.
    """
    if not len(table):
        return
    encoded = table.column("role").combine_chunks().dictionary_encode()
    roles, role = np.array(encoded.dictionary.to_pylist()), encoded.indices.to_numpy()
    ids = to_ids(table.column("image_id"))
    cell, row = _rows_by_cell(table.column("cells"), first, end, (role, ids))
    # Copied last, because sorting takes memory as well.
    vectors = vector_matrix(table.column("vector"))
    for _, low, high in runs(cell):
        rows = row[low:high]
        yield roles[role[rows]], ids[rows], vectors[rows]


def _rows_by_cell(
    cells: pa.ChunkedArray,
    first: int,
    end: int,
    identity: tuple[npt.NDArray[np.int32], Ids],
) -> tuple[npt.NDArray[np.int32], RowNumbers]:
    """Return cells from `first` to `end` − 1, ascending, and their rows, by role and id.

    Args:
        cells: of each row.
        first: the first cell.
        end: the cell after the last.
        identity: number of the role, and id, of each row; the first of equal rows counts.
    """
    lists = cells.combine_chunks()
    cell = lists.flatten().to_numpy()
    row = np.repeat(np.arange(len(lists)), lists.type.list_size)
    in_range = (cell >= first) & (cell < end)
    cell, row = cell[in_range], row[in_range]
    role, ids = identity
    order = np.lexsort((ids[row], role[row], cell))
    cell, row = cell[order], row[order]
    distinct = run_starts(cell, role[row], ids[row])
    return cell[distinct], row[distinct]


def search_cells(
    by_role: Mapping[str, Mapping[str, Fragment]],
    role_pairs: RolePairs,
    options: Mapping[str, float],
    codebooks: Fragment,
    context: Context,
) -> list[Fragment]:
    """Find near pairs in each group of cells.

    Args:
        by_role: fragments of vectors, by role and by name.
        role_pairs: roles to join.
        options: `k`, `floor` (smallest similarity) and `spread` (cells of each vector).
        codebooks: of the quantiser, a work table.
        context: where workers run.

    Returns:
        Work tables of CELL_PAIRS. A query may occur in several, and must be merged.
    """
    fragments = [(role, f) for role, named in by_role.items() for f in named.values()]
    quantiser = read_codebooks(codebooks)
    assert quantiser is not None
    cells, dim = quantiser.coarse.shape
    spread = int(options["spread"])
    batches = {f"route-{batch[0][1].name}": batch for batch in task_batches(fragments)}
    shared = {"codebooks": codebooks, "spread": spread}
    items = {name: {"fragments": batch} | shared for name, batch in batches.items()}
    routed_tables = context.compute("route", route, items, gpu=True)
    total_bytes = 2.0 * spread * dim * sum(fragment.rows for _, fragment in fragments)
    counts = count_vectors(cells, list(routed_tables.values()), context)
    tasks = cell_tasks(cell_groups(cells, total_bytes), counts, BYTES_PER_GROUP // dim)
    readings = [
        MapTask(
            read_routed,
            {"fragments": batch, "routed": routed_tables[name], "tasks": tasks},
        )
        for name, batch in batches.items()
    ]
    job = Exchange(
        "cells",
        {"vectors": ExchangeInput(_routed_schema(min(spread, cells), dim), readings)},
        join_cells,
        tasks.count,
        {
            "tasks": tasks,
            "role_pairs": tuple(role_pairs),
            "options": {name: options[name] for name in ("k", "floor")},
        },
        pass_part=True,
        gpu=True,
    )
    return exchange_tables(job, context)


def _routed_schema(spread: int, dim: int) -> pa.Schema:
    """Return the columns of vectors that `read_routed` sends, without the key."""
    return pa.schema(
        [
            ("cells", pa.list_(pa.int32(), spread)),
            ("role", pa.string()),
            ("image_id", pa.string()),
            ("vector", pa.binary(2 * dim)),
        ]
    )


def merge_exchange(
    cell_pairs: Sequence[Fragment],
    function: Callable[..., StageOutput],
    arguments: Mapping[str, Any],
) -> Exchange:
    """Return the exchange that brings together all pairs of a query.

    Args:
        cell_pairs: work tables of `search_cells`.
        function: called with `cell_pairs`, all CELL_PAIRS of some queries, and with the arguments.
        arguments: further arguments of the function, `k` among them.
    """
    readings = [MapTask(read_cell_pairs, {"cell_pairs": fragment}) for fragment in cell_pairs]
    parts = max(1, -(-sum(fragment.rows for fragment in cell_pairs) // PAIRS_PER_MERGE))
    inputs = {"cell_pairs": ExchangeInput(CELL_PAIRS, readings)}
    return Exchange("merge", inputs, function, parts, arguments)


def read_cell_pairs(cell_pairs: Fragment) -> Iterator[pa.Table]:
    """Yield CELL_PAIRS, keyed by query."""
    for batch in cell_pairs.batches(rows=PAIRS_PER_MERGE // 4):
        keys = seeded_keys(to_ids(batch.column("query_id")), "query")
        yield pa.Table.from_batches([batch]).append_column(KEY, pa.array(keys))


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
        yield _numbered(pairs, np.full(len(pairs), number, np.int32))
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
    job = merge_exchange(cell_pairs, merge_cell_pairs, {"k": int(options["k"])})
    for part in exchange_tables(job, context):
        table = part.read()
        for number, (query_role, base_role) in enumerate(role_pairs):
            pairs = table.filter(pc.equal(table.column("role_pair"), number))
            if len(pairs):
                yield query_role, base_role, pairs.drop_columns(["role_pair"])
