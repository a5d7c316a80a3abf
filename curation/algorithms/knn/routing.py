"""Which cells each vector goes to, and how it gets there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Vectors, vector_array
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.exact import build_base
from curation.algorithms.knn.exact import search as search_exact
from curation.algorithms.knn.read import read_vectors
from curation.engine.device import CPU
from curation.engine.exchange import KEY
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput

ROUTED = 1_000_000
"""Rows that one task routes."""
SENT = 250_000
"""Rows that it sends at once, so that a message to a group of cells has some of them."""

Cells = npt.NDArray[np.int32]
Routed = Sequence[tuple[str, Fragment]]
"""Roles and vectors that one task routes."""


def nearest_cells(
    vectors: Vectors, coarse: npt.NDArray[np.float32], spread: int, device: str = CPU
) -> Cells:
    """Return the nearest cells of each vector (n, dim), (n, spread), the nearest first.

    Args:
        vectors: unit vectors.
        coarse: (cells, dim) float32 centroids.
        spread: at most the number of cells.
        device: `cpu` or `cuda[:n]`.
    """
    names = np.char.mod("%032d", np.arange(len(coarse))).astype("S32")
    found = search_exact(vectors, build_base(coarse, names), spread, device=device)
    return found.ids.astype(np.int32).reshape(len(vectors), spread)


def batches_of(fragments: Routed) -> Iterator[list[tuple[str, Fragment]]]:
    """Yield fragments in batches of about ROUTED rows, of one role each so that they stay the same."""
    batch: list[tuple[str, Fragment]] = []
    for role, fragment in fragments:
        if batch and (
            batch[0][0] != role or sum(f.rows for _, f in batch) + fragment.rows > ROUTED
        ):
            yield batch
            batch = []
        batch.append((role, fragment))
    if batch:
        yield batch


def route(fragments: Routed, codebooks: Fragment, spread: int, device: str) -> StageOutput:
    """Write the nearest cells of each vector that can be compared, in the order of fragments.

    Args:
        fragments: roles and vectors.
        codebooks: of the quantiser.
        spread: cells of a vector.
        device: `cpu` or `cuda[:n]`.
    """
    books = read_codebooks(codebooks)
    assert books is not None
    spread = min(spread, len(books.coarse))
    yield pa.RecordBatch.from_arrays([_lists(np.empty((0, spread), np.int32))], names=["cells"])
    for _, fragment in fragments:
        _, vectors = read_vectors(fragment)
        if len(vectors):
            cells = nearest_cells(vectors, books.coarse, spread, device)
            yield pa.RecordBatch.from_arrays([_lists(cells)], names=["cells"])
    return None


def _lists(cells: Cells) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(cells.ravel()), cells.shape[1])


def read_routed(fragments: Routed, routed: Fragment, groups: tuple[int, ...]) -> Iterator[pa.Table]:
    """Yield vectors by the groups of their cells.

    Args:
        fragments: as `route` was given them.
        routed: what it wrote.
        groups: the first cell of each group, and the end.
    """
    cells = routed.read(["cells"]).column("cells").combine_chunks()
    spread = cells.type.list_size
    start, gathered = 0, list[pa.Table]()
    for role, fragment in fragments:
        ids, vectors = read_vectors(fragment)
        own = cells.slice(start, len(ids))
        start += len(ids)
        group = np.searchsorted(groups, own.flatten().to_numpy(), "right") - 1
        keys = pa.FixedSizeListArray.from_arrays(pa.array(group.astype(np.uint64)), spread)
        if len(ids):
            columns = [own, pa.repeat(role, len(ids)), from_ids(ids), vector_array(vectors)]
            names = ["cells", "role", "image_id", "vector", KEY]
            gathered.append(pa.table([*columns, keys], names=names))
        if sum(map(len, gathered)) >= SENT:
            yield pa.concat_tables(gathered)
            gathered.clear()
    if gathered:
        yield pa.concat_tables(gathered)
