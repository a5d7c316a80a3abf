"""The join by cells: vectors are compared if they share a cell of one global quantiser.

Each vector is sent to its `spread` nearest cells and is compared with every vector there. Two near
vectors are missed only if they share none of these cells. SemDeDup (Abbas et al. 2023) compares within
one cell, and misses more. A vector crosses the network once for each of its cells. Everything else is
local to a cell. Among the pairs that share a cell the join is exact; the recall over all pairs is
measured on a sample.

Vectors that an earlier run joined with each other are old. Pairs of two old vectors are known, so only
pairs with a new vector are searched, in the cells that have one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Bools, Ids, RowNumbers, Vectors, vector_matrix
from curation.algorithms.knn.blocks import nearest_others
from curation.algorithms.knn.cell_shares import (
    CellTasks,
    cell_tasks,
    count_vectors,
    share_of,
    unknown_pairs,
)
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.exact import Base, Candidates, build_base, load_screen
from curation.algorithms.knn.pairs import JOIN_PAIRS, RolePairs, number_pairs, pairs_batch
from curation.algorithms.knn.routing import RoleFragments, read_routed, route, task_batches
from curation.engine.context import Context
from curation.engine.exchange import Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.sorted_arrays import run_starts, runs
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

BYTES_PER_GROUP = 2**28
"""Bytes of vectors that one task joins at most. The task needs about four times that memory."""


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
        JOIN_PAIRS.
    """
    yield empty_batch(JOIN_PAIRS)
    group, shares, query_share, base_share = tasks.part(part)
    first, end = tasks.starts[group : group + 2]
    # Every vector is in one of the cells at least, and equally full cells take the fewest products.
    load_screen(_products(vectors) / (end - first))
    joins = _by_base(role_pairs)
    for cell in _vectors_by_cell(vectors, first, end):
        share = share_of(cell.ids, shares)
        for base_role, numbers in joins.items():
            left = np.isin(cell.roles, list(numbers)) & (share == query_share)
            right = (cell.roles == base_role) & (share == base_share)
            rows = np.flatnonzero(left), np.flatnonzero(right)
            for query_rows, base_rows in unknown_pairs(*rows, cell.new):
                queries = _Queries(
                    cell.roles[query_rows], cell.ids[query_rows], cell.vectors[query_rows]
                )
                base = build_base(cell.vectors[base_rows], cell.ids[base_rows])
                near = queries.nearest(base, base_role, options, device)
                yield queries.pairs(near, numbers)
    return None


def _products(vectors: pa.Table) -> float:
    """Return the multiplications of all pairs with a new vector, if all vectors were in one cell."""
    old = len(vectors) - (pc.sum(vectors.column("new")).as_py() or 0)
    return float((len(vectors) ** 2 - old**2) * _dim_of(vectors))


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
        """Return candidates as JOIN_PAIRS; `numbers` has that of the pair of roles, by query role."""
        role_pair = np.zeros(len(self.ids), np.int32)
        for role, number in numbers.items():
            role_pair[self.roles == role] = number
        return number_pairs(pairs_batch(self.ids, near), role_pair[near.query])


def _dim_of(vectors: pa.Table) -> int:
    return int(vectors.schema.field("vector").type.byte_width // 2)


class _CellVectors(NamedTuple):
    """The vectors of one cell.

    Attributes:
        roles: role of each, (n,).
        ids: image id of each, (n,).
        vectors: unit vectors, (n, dim).
        new: whether no earlier run joined it, (n,).
    """

    roles: npt.NDArray[np.str_]
    ids: Ids
    vectors: Vectors
    new: Bools


def _vectors_by_cell(table: pa.Table, first: int, end: int) -> Iterator[_CellVectors]:
    """Yield the vectors of each cell from `first` to `end` − 1.

    Within a cell an image occurs once for each of its roles; as an old one if it is old and new.
    """
    if not len(table):
        return
    encoded = table.column("role").combine_chunks().dictionary_encode()
    roles, role = np.array(encoded.dictionary.to_pylist()), encoded.indices.to_numpy()
    ids, new = to_ids(table.column("image_id")), np.asarray(table.column("new"))
    cell, row = _rows_by_cell(table.column("cells"), first, end, (role, ids, new))
    # Copied last, because sorting takes memory as well.
    vectors = vector_matrix(table.column("vector"))
    for _, low, high in runs(cell):
        rows = row[low:high]
        yield _CellVectors(roles[role[rows]], ids[rows], vectors[rows], new[rows])


def _rows_by_cell(
    cells: pa.ChunkedArray,
    first: int,
    end: int,
    identity: tuple[npt.NDArray[np.int32], Ids, Bools],
) -> tuple[npt.NDArray[np.int32], RowNumbers]:
    """Return cells from `first` to `end` − 1, ascending, and their rows, by role and id.

    Args:
        cells: of each row.
        first: the first cell.
        end: the cell after the last.
        identity: number of the role, id, and whether it is new, of each row. Of rows with one role and
            id an old one counts.
    """
    lists = cells.combine_chunks()
    cell = lists.flatten().to_numpy()
    row = np.repeat(np.arange(len(lists)), lists.type.list_size)
    in_range = (cell >= first) & (cell < end)
    cell, row = cell[in_range], row[in_range]
    role, ids, new = identity
    order = np.lexsort((new[row], ids[row], role[row], cell))
    cell, row = cell[order], row[order]
    distinct = run_starts(cell, role[row], ids[row])
    return cell[distinct], row[distinct]


def search_cells(
    by_role: Mapping[str, Mapping[str, Fragment]],
    role_pairs: RolePairs,
    options: Mapping[str, float],
    codebooks: Fragment,
    context: Context,
    old: Collection[tuple[str, str]] = (),
) -> list[Fragment]:
    """Find near pairs in each group of cells.

    Args:
        by_role: fragments of vectors, by role and by name.
        role_pairs: roles to join.
        options: `k`, `floor` (smallest similarity) and `spread` (cells of each vector).
        codebooks: of the quantiser, a work table.
        context: where workers run.
        old: role and content of the fragments that were joined with each other before; pairs of two of
            their vectors are left out.

    Returns:
        Work tables of JOIN_PAIRS. A query may occur in several, and must be merged.
    """
    quantiser = read_codebooks(codebooks)
    assert quantiser is not None
    cells, dim = quantiser.coarse.shape
    spread = int(options["spread"])
    batches = _batches(by_role, old, cells)
    shared = {"codebooks": codebooks, "spread": spread}
    items = {name: {"fragments": batch.fragments} | shared for name, batch in batches.items()}
    routed = context.compute("route", route, items, gpu=True)
    of_new, of_old = (
        count_vectors(cells, [routed[n] for n in batches if batches[n].new == new], context)
        for new in (True, False)
    )
    wanted = of_new > 0
    counts = np.where(wanted, of_new + of_old, 0)
    groups = cell_groups(cells, 2.0 * dim * counts.sum())
    tasks = cell_tasks(groups, counts, max(1, BYTES_PER_GROUP // (2 * dim)))
    readings = [
        MapTask(
            read_routed,
            {"routed": routed[name], "wanted": wanted, "tasks": tasks} | batch._asdict(),
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


class _Batch(NamedTuple):
    """Fragments that one task reads, and whether their vectors are new."""

    fragments: RoleFragments
    new: bool


def _batches(
    by_role: Mapping[str, Mapping[str, Fragment]], old: Collection[tuple[str, str]], cells: int
) -> dict[str, _Batch]:
    """Return batches of old and of new fragments, by a name for each.

    An earlier run had the same batches of what is old now, so their cells are known.
    """
    fragments = [(role, f) for role, named in by_role.items() for f in named.values()]
    is_old = [(role, fragment.content) in old for role, fragment in fragments]
    return {
        f"route-{batch[0][1].name}": _Batch(batch, new)
        for new in (True, False)
        for batch in task_batches(
            (pair for pair, known in zip(fragments, is_old, strict=True) if known != new), cells
        )
    }


def _routed_schema(spread: int, dim: int) -> pa.Schema:
    """Return the columns of vectors that `read_routed` sends, without the key."""
    return pa.schema(
        [
            ("cells", pa.list_(pa.int32(), spread)),
            ("role", pa.string()),
            ("image_id", pa.string()),
            ("vector", pa.binary(2 * dim)),
            ("new", pa.bool_()),
        ]
    )
