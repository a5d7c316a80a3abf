"""Sends hashes to the cells of their pieces (see `hash_parts`), and searches the cells.

Pairs of two old hashes are known (see `hash_groups`); only pairs with a new one are searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.fixed_bytes import bytes_of, fixed_bytes
from curation.algorithms.arrays.vectors import Bools, RowNumbers
from curation.algorithms.knn.cell_shares import (
    CellTasks,
    Counts,
    cell_starts,
    cell_tasks,
    keyed_by_task,
    share_of,
    unknown_pairs,
)
from curation.algorithms.knn.hash_groups import HASHED, IMAGE, first_images, hashes_of
from curation.algorithms.knn.hash_lists import HashLists, HashPairs
from curation.algorithms.knn.hash_parts import CELL_HASHES, Hashes, HashParts, take_hashes
from curation.engine.context import Context
from curation.engine.exchange import Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.sorted_arrays import ranks_in_runs, run_starts, stable_order
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

FEWEST_ROWS, TASKS = 200_000, 64
"""A task gets at least so many rows, and there are about so many tasks while they can hold the rows."""

IN_CELL = HASHED.append(pa.field("further", pa.list_(IMAGE)))
"""The first image of each hash."""
NEAR_HASHES = pa.schema(
    [
        ("role_pair", pa.int8()),
        ("query", IMAGE),
        ("image", IMAGE),
        ("bits", pa.int16()),
        ("further", pa.list_(IMAGE)),
    ]
)
"""Near hashes of queries, each by its first image. `role_pair` numbers the join."""


def search_cells(
    grouped: Sequence[Fragment], parts: HashParts, options: Mapping[str, Any], context: Context
) -> list[Fragment]:
    """Return work tables of NEAR_HASHES. A query may occur in several, and must be merged.

    Args:
        grouped: work tables of `group_hashes`.
        parts: how hashes are cut.
        options: `k`, and `role_pairs`, the numbers of the roles of each join.
        context: where workers run.
    """
    counts, of_new = count_cells(grouped, parts, context)
    wanted = of_new > 0
    counts = np.where(wanted, counts, 0)
    group = max(FEWEST_ROWS, int(counts.sum()) // TASKS)
    tasks = cell_tasks(cell_starts(counts, min(group, CELL_HASHES)), counts, CELL_HASHES)
    readings = [
        MapTask(
            read_for_cells,
            {"grouped": fragment, "parts": parts, "wanted": wanted, "tasks": tasks},
        )
        for fragment in grouped
    ]
    job = Exchange(
        "hash cells",
        {"hashes": ExchangeInput(IN_CELL, readings)},
        join_cells,
        tasks.count,
        {"parts": parts, "tasks": tasks, "options": options},
        pass_part=True,
    )
    return exchange_tables(job, context)


def count_cells(
    grouped: Sequence[Fragment], parts: HashParts, context: Context
) -> tuple[Counts, Counts]:
    """Return how many hashes go to each cell, and how many new ones, shape (cells,) each."""
    counts = np.zeros((2, parts.cells), np.int64)
    items = {fragment.name: {"grouped": fragment, "parts": parts} for fragment in grouped}
    for table in context.compute("hash counts", write_counts, items).values():
        rows = table.read()
        counts += [rows.column(name).to_numpy() for name in ("count", "new")]
    return counts[0], counts[1]


def write_counts(grouped: Fragment, parts: HashParts) -> StageOutput:
    """Write how many hashes of a work table go to each cell, and how many new ones."""
    counts = np.zeros((2, parts.cells), np.int64)
    for batch in first_images(grouped):
        cells, new = parts.cells_of(hashes_of(batch)), np.asarray(batch.column("new"))
        for row, some in enumerate((cells, cells[new])):
            counts[row] += np.bincount(some.ravel(), minlength=parts.cells)
    yield pa.RecordBatch.from_arrays([pa.array(row) for row in counts], names=["count", "new"])
    return None


def read_for_cells(
    grouped: Fragment, parts: HashParts, wanted: Bools, tasks: CellTasks
) -> Iterator[pa.Table]:
    """Yield the first image of each hash, keyed by the tasks of its cells.

    Args:
        grouped: a work table of `group_hashes`.
        parts: how hashes are cut.
        wanted: whether hashes of a cell are joined, (cells,). Those of no such cell are left out.
        tasks: which task joins what.
    """
    for batch in first_images(grouped):
        cells = parts.cells_of(hashes_of(batch)).astype(np.int32)
        kept = wanted[cells].any(axis=1)
        table = pa.Table.from_batches([batch]).select(IN_CELL.names).filter(pa.array(kept))
        yield from keyed_by_task(table, bytes_of(table, "image"), cells[kept], tasks)


def join_cells(
    hashes: pa.Table, parts: HashParts, tasks: CellTasks, options: Mapping[str, Any], part: int
) -> StageOutput:
    """Join the hashes within each cell of a group, or two shares of one cell.

    Args:
        hashes: all hashes that were sent to this task.
        parts: how hashes are cut.
        tasks: which task joins what.
        options: `k`, and `role_pairs`, the numbers of the roles of each join.
        part: number of the task.

    Yields:
        NEAR_HASHES: at most k + 1 pairs for each query and cell, because a query may find itself in
        another role.
    """
    yield empty_batch(NEAR_HASHES)
    group, shares, query_share, base_share = tasks.part(part)
    joins = Joins(options["role_pairs"], hashes)
    share, new = share_of(joins.images, shares), np.asarray(hashes.column("new"))
    all_hashes = hashes_of(hashes)
    for cell, rows in _rows_by_cell(all_hashes, parts, *tasks.starts[group : group + 2]):
        left, right = (rows[share[rows] == each] for each in (query_share, base_share))
        for queries, base in unknown_pairs(left, right, new):
            lists = HashLists(
                take_hashes(all_hashes, base), parts, parts.pieces[cell >> parts.cell_bits]
            )
            for query, row, bits in lists.near(take_hashes(all_hashes, queries)):
                near = queries[query], base[row], bits
                yield joins.nearest(near, options["k"])
    return None


def _rows_by_cell(
    hashes: Hashes, parts: HashParts, first: int, end: int
) -> Iterator[tuple[int, RowNumbers]]:
    """Yield the cells from `first` to `end` − 1 that have hashes, and their rows.

    Args:
        hashes: shape (n, 32).
        parts: how they are cut.
        first: the first cell.
        end: the cell after the last.
    """
    # A hash has one cell for each piece, and the cells of a piece follow each other.
    for piece in range(first >> parts.cell_bits, ((end - 1) >> parts.cell_bits) + 1):
        cell = parts.cell_of(hashes, piece)
        row = np.flatnonzero((cell >= first) & (cell < end))
        row = row[stable_order(cell[row])]
        starts = np.flatnonzero(run_starts(cell[row]))
        for low, high in pairwise([*starts.tolist(), len(row)]):
            yield int(cell[row[low]]), row[low:high]


class Joins:
    """Which roles of some hashes are joined.

    Args:
        role_pairs: numbers of the roles of the queries and of the base of each join.
        hashes: IN_CELL.
    """

    def __init__(self, role_pairs: Sequence[tuple[int, int]], hashes: pa.Table) -> None:
        self.images = bytes_of(hashes, "image")
        self._roles = hashes.column("role").to_numpy()
        self._further = hashes.column("further").combine_chunks()
        size = 1 + max((max(pair) for pair in role_pairs), default=0)
        self._numbers = np.full((size, size), -1, np.int64)
        for number, (query_role, base_role) in enumerate(role_pairs):
            self._numbers[query_role, base_role] = number
        self._is_self_join = np.array([query == base for query, base in role_pairs] + [False])

    def nearest(self, near: HashPairs, k: int) -> pa.RecordBatch:
        """Return NEAR_HASHES: the k + 1 nearest of each query in each join.

        Args:
            near: rows of the query and of the base, and bits, of all pairs of some queries.
            k: how many are wanted.
        """
        query, row, bits = near
        images = self.images
        join = self._numbers[self._roles[query], self._roles[row]]
        wanted = np.flatnonzero((join >= 0) & ~((query == row) & self._is_self_join[join]))
        order = wanted[np.lexsort((images[row[wanted]], bits[wanted], join[wanted], query[wanted]))]
        kept = order[ranks_in_runs(query[order], join[order]) <= k]
        columns = [
            pa.array(join[kept].astype(np.int8)),
            fixed_bytes(images[query[kept]]),
            fixed_bytes(images[row[kept]]),
            pa.array(bits[kept].astype(np.int16)),
            self._further.take(pa.array(row[kept])),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=NEAR_HASHES)
