"""Assigns vectors to cells, and sends them to the groups of their cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Bools, Vectors, vector_array
from curation.algorithms.knn.cell_shares import ROWS_PER_MESSAGE, CellTasks, keyed_by_task
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.exact import Base, build_base
from curation.algorithms.knn.exact import search as search_exact
from curation.algorithms.knn.read import read_vectors
from curation.engine.device import CPU
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

ROWS_PER_TASK = 1_000_000
"""Rows that one task assigns to cells, at most."""
ROWS_PER_CELL, FEWEST_ROWS = 64, 100_000
"""Rows that a task assigns for each cell, and at least, so that reading the cells is a small part."""
Cells = npt.NDArray[np.int32]
RoleFragments = Sequence[tuple[str, Fragment]]
"""Roles and fragments of vectors that one task assigns to cells."""


def cell_base(centroids: npt.NDArray[np.float32]) -> Base:
    """Return the centroids of cells, (cells, dim), as a base for `nearest_cells`."""
    return build_base(centroids, np.char.mod("%032d", np.arange(len(centroids))).astype("S32"))


def nearest_cells(vectors: Vectors, cells: Base, spread: int, device: str = CPU) -> Cells:
    """Return the nearest cells of each vector.

    Args:
        vectors: unit vectors, shape (n, dim).
        cells: of `cell_base`.
        spread: cells of each vector, at most the number of cells.
        device: `cpu` or `cuda[:n]`.

    Returns:
        Numbers of cells, nearest first, shape (n, spread).
    """
    nearest = search_exact(vectors, cells, spread, device=device)
    return nearest.ids.astype(np.int32).reshape(len(vectors), spread)


def task_batches(
    fragments: Iterable[tuple[str, Fragment]], cells: int
) -> Iterator[list[tuple[str, Fragment]]]:
    """Yield fragments in batches of about the same number of rows.

    A batch has one role, so that new fragments of one role do not change the batches of others. Its
    size follows from the number of cells, which stays when a pool grows.
    """
    rows = min(ROWS_PER_TASK, max(FEWEST_ROWS, ROWS_PER_CELL * cells))
    for role, of_role in groupby(fragments, key=itemgetter(0)):
        for batch in split_by_rows((fragment for _, fragment in of_role), rows):
            yield [(role, fragment) for fragment in batch]


def route(fragments: RoleFragments, codebooks: Fragment, spread: int, device: str) -> StageOutput:
    """Write the nearest cells of each vector that can be compared, in the order of fragments.

    Args:
        fragments: roles and vectors.
        codebooks: of the quantiser.
        spread: cells of each vector.
        device: `cpu` or `cuda[:n]`.

    Yields:
        Batches with the column `cells`, a list of `spread` numbers for each vector.
    """
    quantiser = read_codebooks(codebooks)
    assert quantiser is not None
    spread, centroids = min(spread, len(quantiser.coarse)), cell_base(quantiser.coarse)
    yield pa.RecordBatch.from_arrays([_lists(np.empty((0, spread), np.int32))], names=["cells"])
    for _, fragment in fragments:
        _, vectors = read_vectors(fragment)
        if len(vectors):
            cells = nearest_cells(vectors, centroids, spread, device)
            yield pa.RecordBatch.from_arrays([_lists(cells)], names=["cells"])
    return None


def _lists(cells: Cells) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(cells.ravel()), cells.shape[1])


def read_routed(
    fragments: RoleFragments, new: bool, routed: Fragment, wanted: Bools, tasks: CellTasks
) -> Iterator[pa.Table]:
    """Yield vectors with their cells, keyed by the tasks of these cells.

    Args:
        fragments: the fragments that `route` read.
        new: whether no earlier run joined their vectors.
        routed: the work table that `route` wrote.
        wanted: whether vectors of a cell are joined, (cells,). Those of no such cell are left out.
        tasks: which task joins what.
    """
    all_cells = routed.read(["cells"]).column("cells").combine_chunks()
    spread = all_cells.type.list_size
    start, tables = 0, list[pa.Table]()
    for role, fragment in fragments:
        ids, vectors = read_vectors(fragment)
        cells = all_cells.slice(start, len(ids)).flatten().to_numpy().reshape(len(ids), spread)
        start += len(ids)
        kept = wanted[cells].any(axis=1)
        if kept.any():
            cells, ids = cells[kept], ids[kept]
            columns = [_lists(cells), pa.repeat(role, len(ids)), from_ids(ids)]
            columns += [vector_array(vectors[kept]), pa.repeat(new, len(ids))]
            table = pa.table([*columns], names=["cells", "role", "image_id", "vector", "new"])
            keyed = keyed_by_task(table, ids, cells, tasks)
            tables.append(next(keyed))
            yield from keyed
        if sum(map(len, tables)) >= ROWS_PER_MESSAGE:
            yield pa.concat_tables(tables)
            tables.clear()
    if tables:
        yield pa.concat_tables(tables)
