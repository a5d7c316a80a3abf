"""Reads the vectors of a store as numpy arrays: in memory, memory-mapped, or a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.vectors import Vectors, comparable_rows, vector_matrix
from curation.engine.table import Table, open_table
from curation.media.encoders.params import EMBEDDINGS
from curation.store.store import Store

TextIds = npt.NDArray[np.str_]
"""Ids of pairs or images: dtype U32, shape (n,)."""


class Embeddings(NamedTuple):
    """Unit vectors (n, dim) in float16, in the order of the table, with the ids of their rows, (n,).

    The ids are text, as in the tables: `frame["image_id"].isin(embeddings.image_ids)`.
    """

    pair_ids: TextIds
    image_ids: TextIds
    vectors: Vectors


def vector_batches(table: Table, rows: int = 65_536) -> Iterator[Embeddings]:
    """Yield the vectors of a table, at most `rows` at a time. Rows without one are left out.

    Args:
        table: of one encoder.
        rows: largest number of rows in a batch.

    Raises:
        StoreError: a file has vanished or is damaged.
    """
    for fragment in table.fragments.values():
        for batch in fragment.batches(["pair_id", "image_id", "vector"], rows=rows):
            part = pa.Table.from_batches([batch])
            part = part.filter(pa.array(comparable_rows(part.column("vector"))))
            if len(part):
                yield Embeddings(
                    _text(part.column("pair_id")),
                    _text(part.column("image_id")),
                    vector_matrix(part.column("vector")),
                )


def _text(ids: pa.ChunkedArray) -> TextIds:
    return np.asarray(ids.to_numpy(zero_copy_only=False), dtype="U32")


def read_vectors(table: Table, memmap: str | Path | None = None) -> Embeddings:
    """Return the vectors of a table. Rows without one are left out.

    Args:
        table: of one encoder.
        memmap: a .npy file to write the vectors to, for more vectors than fit into memory. The file is
            then mapped into memory. The vectors are read twice, and the ids take 256 bytes a row.

    Raises:
        StoreError: a file has vanished or is damaged.
    """
    pairs, images = [np.empty(0, "U32")], [np.empty(0, "U32")]
    parts: list[Vectors] = [np.empty((0, 0), "<f2")]
    dim = 0
    for batch in vector_batches(table):
        pairs.append(batch.pair_ids)
        images.append(batch.image_ids)
        dim = batch.vectors.shape[1]
        if memmap is None:
            parts.append(batch.vectors)
    ids = np.concatenate(pairs), np.concatenate(images)
    if memmap is None:
        return Embeddings(*ids, np.concatenate(parts[1:] or parts))
    mapped = np.lib.format.open_memmap(memmap, "w+", "<f2", (len(ids[0]), dim))
    start = 0
    for batch in vector_batches(table):
        mapped[start : start + len(batch.vectors)] = batch.vectors
        start += len(batch.vectors)
    mapped.flush()
    return Embeddings(*ids, np.load(memmap, mmap_mode="r"))


def embedding_batches(store: str | Path, encoder: str, rows: int = 65_536) -> Iterator[Embeddings]:
    """Yield the vectors that one encoder made, at most `rows` at a time; see `vector_batches`.

    Args:
        store: folder or URI of the store.
        encoder: name of the encoder in the recipe.
        rows: largest number of rows in a batch.

    Raises:
        StoreError: the store has no vectors of that encoder, or one of their files is damaged.
    """
    yield from vector_batches(open_table(Store(store), EMBEDDINGS.table(encoder)), rows)


def read_embeddings(
    store: str | Path, encoder: str, memmap: str | Path | None = None
) -> Embeddings:
    """Return the vectors that one encoder made, of the latest finished run that has them.

    `curation.open(store).vectors(encoder)` returns those of one recipe.

    Args:
        store: folder or URI of the store.
        encoder: name of the encoder in the recipe.
        memmap: see `read_vectors`.

    Raises:
        StoreError: the store has no vectors of that encoder, or one of their files is damaged.
    """
    return read_vectors(open_table(Store(store), EMBEDDINGS.table(encoder)), memmap)
