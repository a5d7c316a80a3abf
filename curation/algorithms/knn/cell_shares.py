"""Divides the cells of a join among tasks, so that none gets more vectors than it can hold.

Vectors that are near each other share their cells. A million pictures of one thing fill one cell, which
is then divided into shares, and every share is compared with every other by a task of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Bools, Ids, RowNumbers
from curation.engine.context import Context
from curation.engine.exchange import KEY
from curation.engine.sorted_arrays import positions_of_ranges
from curation.engine.units import StageOutput
from curation.store.digest import digest
from curation.store.fragment import Fragment

ROWS_PER_MESSAGE = 250_000
"""Rows that a task sends at once. With fewer, a message to one group of cells would hold few rows."""
ROWS_PER_SHARED_MESSAGE = 10_000
"""Rows of shared cells that are sent at once; each goes to several tasks."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CellTasks:
    """Which task joins what.

    Attributes:
        starts: the first cell of each group, and after them the number of cells.
        shares: number of shares of each group; more than 1 only for a group of one cell.
    """

    starts: tuple[int, ...]
    shares: tuple[int, ...]

    @property
    def content(self) -> str:
        """What memos depend on."""
        return digest([self.starts, self.shares])

    @property
    def count(self) -> int:
        """Number of tasks: of each group one for every two shares."""
        return sum(number * number for number in self.shares)

    @property
    def _first(self) -> Counts:
        squares = np.square(np.array(self.shares, np.int64))
        return np.cumsum(squares) - squares

    def part(self, task: int) -> tuple[int, int, int, int]:
        """Return the group of a task, its number of shares, and those of its queries and its base."""
        group = int(np.searchsorted(self._first, task, "right")) - 1
        number = self.shares[group]
        return (group, number, *divmod(task - int(self._first[group]), number))

    def of_cells(self, cells: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.uint64], Bools]:
        """Return the first task of the group of each cell, and whether the group has several shares."""
        group = np.searchsorted(self.starts, cells, "right") - 1
        return self._first[group].astype(np.uint64), np.array(self.shares)[group] > 1

    def of_shared(
        self, ids: Ids, cells: npt.NDArray[np.int32]
    ) -> tuple[RowNumbers, npt.NDArray[np.uint64]]:
        """Return the tasks of vectors of which some cells have several shares.

        Args:
            ids: image ids, shape (n,).
            cells: cells of each vector, shape (n, spread).

        Returns:
            Row and task of each pair, (m,) each; each pair once.
        """
        spread = cells.shape[1]
        row, flat = np.repeat(np.arange(len(ids)), spread), cells.ravel()
        group = np.searchsorted(self.starts, flat, "right") - 1
        number = np.array(self.shares, np.int64)[group]
        share = share_of(ids[row], number)
        again, other = positions_of_ranges(np.zeros(len(row), np.int64), number)
        as_query = self._first[group][again] + share[again] * number[again] + other
        as_base = self._first[group][again] + other * number[again] + share[again]
        pairs = np.stack([np.tile(row[again], 2), np.concatenate([as_query, as_base])], 1)
        distinct = np.unique(pairs, axis=0)
        return distinct[:, 0], distinct[:, 1].astype(np.uint64)


def keyed_by_task(
    table: pa.Table, ids: Ids, cells: npt.NDArray[np.int32], tasks: CellTasks
) -> Iterator[pa.Table]:
    """Yield rows, keyed by the tasks of their cells.

    Args:
        table: the rows.
        ids: image id of each, shape (n,).
        cells: cells of each, shape (n, spread).
        tasks: which task joins what.

    Yields:
        First the rows of whose cells none has several shares, with one key for each cell; then the
        others, once for each of their tasks.
    """
    first, shared = tasks.of_cells(cells)
    several = shared.any(axis=1)
    keys = pa.FixedSizeListArray.from_arrays(pa.array(first[~several].ravel()), cells.shape[1])
    yield table.filter(pa.array(~several)).append_column(KEY, keys)
    table, ids, cells = table.filter(pa.array(several)), ids[several], cells[several]
    for start in range(0, len(ids), ROWS_PER_SHARED_MESSAGE):
        part = slice(start, start + ROWS_PER_SHARED_MESSAGE)
        row, key = tasks.of_shared(ids[part], cells[part])
        for low in range(0, len(row), ROWS_PER_MESSAGE):
            high = low + ROWS_PER_MESSAGE
            rows = table.take(pa.array(row[low:high] + start))
            yield rows.append_column(KEY, pa.array(key[low:high]))


def cell_starts(counts: Counts, target: int) -> list[int]:
    """Divide cells into groups of about `target` rows.

    Args:
        counts: number of rows of each cell, shape (cells,).
        target: rows of a group; a cell with more is a group of its own, or ends one.

    Returns:
        The first cell of each group, and after them the number of cells.
    """
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(target, total, target)) + 1
    return sorted({0, *cuts.tolist(), len(counts)})


def share_of(ids: Ids, number: Counts | int) -> Counts:
    """Return the share that each image is in, of a number of shares, shape (n,)."""
    if np.ndim(number) == 0 and number == 1:
        return np.zeros(len(ids), np.int64)
    return (seeded_keys(ids, "share") % np.asarray(number, np.uint64)).astype(np.int64)


def cell_tasks(starts: Sequence[int], counts: Counts, limit: int) -> CellTasks:
    """Divide groups of cells that have too many vectors.

    Args:
        starts: the first cell of each group, and after them the number of cells.
        counts: number of vectors of each cell, shape (cells,).
        limit: vectors that a task can hold.
    """
    firsts: list[int] = []
    shares: list[int] = []
    for first, end in pairwise(starts):
        # A task of a shared cell holds two shares.
        more_firsts, more_shares = divide(counts[first:end], limit, held=2)
        firsts += [first + cell for cell in more_firsts]
        shares += more_shares
    return CellTasks((*firsts, starts[-1]), tuple(shares))


def divide(counts: Counts, limit: int, held: int) -> tuple[list[int], list[int]]:
    """Divide neighbouring cells into groups, and cells that are too large into shares.

    Args:
        counts: number of vectors of each cell, shape (cells,).
        limit: vectors that a task can hold.
        held: shares of a cell that a task holds at once.

    Returns:
        The first cell of each group, and its number of shares, more than 1 only for a single cell.
    """
    firsts: list[int] = []
    shares: list[int] = []
    filled = limit + 1
    for cell, count in enumerate(counts.tolist()):
        if filled + count > limit:
            firsts.append(cell)
            shares.append(1 if count <= limit else -(-held * count // limit))
            filled = 0
        # Nothing joins the group of a cell that has shares.
        filled = limit + 1 if shares[-1] > 1 else filled + count
    return firsts, shares


def unknown_pairs(
    left: RowNumbers, right: RowNumbers, new: Bools
) -> Iterator[tuple[RowNumbers, RowNumbers]]:
    """Yield queries and base so that all pairs are searched but those of two old rows.

    Args:
        left: rows of the queries, (q,).
        right: rows of the base, (b,).
        new: which rows are new, (n,).
    """
    for queries, base in ((left[new[left]], right), (left[~new[left]], right[new[right]])):
        if len(queries) and len(base):
            yield queries, base


def count_vectors(cells: int, routed: Sequence[Fragment], context: Context) -> Counts:
    """Return how many vectors were sent to each cell, shape (cells,).

    Args:
        cells: number of cells.
        routed: work tables with the cells of vectors.
        context: where workers run.
    """
    counts = np.zeros(cells, np.int64)
    items = {fragment.name: {"routed": fragment} for fragment in routed}
    for counted in context.compute("count", write_counts, items).values():
        table = counted.read()
        counts[table.column("cell").to_numpy()] += table.column("count").to_numpy()
    return counts


def write_counts(routed: Fragment) -> StageOutput:
    """Write how many vectors of one work table are in each cell."""
    cells = routed.read(["cells"]).column("cells").combine_chunks().flatten().to_numpy()
    cell, count = np.unique(cells, return_counts=True)
    yield pa.record_batch({"cell": pa.array(cell, pa.int32()), "count": count})
    return None
