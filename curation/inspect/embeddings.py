"""Reads the vectors of a store as numpy arrays: in memory, memory-mapped, or a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids, Vectors, comparable_rows, vector_matrix
from curation.engine.table import open_table
from curation.media.encoders.params import EMBEDDINGS
from curation.store.store import Store


class Embeddings(NamedTuple):
    """Unit vectors (n, dim) in float16, in the order of the table, with the ids of their rows, (n,)."""

    pair_ids: Ids
    image_ids: Ids
    vectors: Vectors


def embedding_batches(store: str | Path, encoder: str, rows: int = 65_536) -> Iterator[Embeddings]:
    """Yield the vectors that one encoder made, at most `rows` at a time. Rows without one are left out.

    Args:
        store: folder or URI of the store.
        encoder: name of the encoder in the recipe.
        rows: largest number of rows in a batch.

    Raises:
        StoreError: the store has no vectors of that encoder, or one of their files is damaged.
    """
    for fragment in open_table(Store(store), EMBEDDINGS.table(encoder)).fragments.values():
        for batch in fragment.batches(["pair_id", "image_id", "vector"], rows=rows):
            table = pa.Table.from_batches([batch])
            table = table.filter(pa.array(comparable_rows(table.column("vector"))))
            if len(table):
                yield Embeddings(
                    to_ids(table.column("pair_id")),
                    to_ids(table.column("image_id")),
                    vector_matrix(table.column("vector")),
                )


def read_embeddings(
    store: str | Path, encoder: str, memmap: str | Path | None = None
) -> Embeddings:
    """Return the vectors that one encoder made. Rows without one are left out.

    Args:
        store: folder or URI of the store.
        encoder: name of the encoder in the recipe.
        memmap: a .npy file to write the vectors to, for more vectors than fit into memory. The file is
            then mapped into memory. The vectors are read twice, and the ids take 64 bytes a row.

    Raises:
        StoreError: the store has no vectors of that encoder, or one of their files is damaged.
    """
    pairs, images = [np.empty(0, "S32")], [np.empty(0, "S32")]
    parts: list[Vectors] = [np.empty((0, 0), "<f2")]
    dim = 0
    for batch in embedding_batches(store, encoder):
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
    for batch in embedding_batches(store, encoder):
        mapped[start : start + len(batch.vectors)] = batch.vectors
        start += len(batch.vectors)
    mapped.flush()
    return Embeddings(*ids, np.load(memmap, mmap_mode="r"))
