"""The vectors that a search looks through, in chunks: as they lie in fragments, or by their lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids, Vectors, vector_matrix
from curation.algorithms.knn.codebooks import read_list_ids
from curation.algorithms.knn.exact import Base, build_base
from curation.algorithms.knn.read import read_numbered_vectors
from curation.engine.sorted_arrays import stable_order
from curation.store.fragment import Fragment

T = TypeVar("T")


class Shard(NamedTuple):
    """Fragments of the pool with the same rows.

    Attributes:
        embeddings: vectors.
        eligible: which rows are eligible; None if all are searched.
        lists: inverted lists; None for exact search.
    """

    embeddings: Fragment
    eligible: Fragment | None = None
    lists: Fragment | None = None

    @property
    def rows(self) -> int:
        """Number of rows, eligible or not."""
        return self.embeddings.rows


PoolPart = Shard | Fragment
"""A shard of the pool, or a work table of vectors in the order of their lists."""


class Chunk(NamedTuple):
    """Images that are compared at once.

    Attributes:
        ids: image ids, shape (n,).
        vectors: shape (n, dim).
        lists: list of each, shape (n,); None for exact search.
    """

    ids: Ids
    vectors: Vectors
    lists: npt.NDArray[np.int32] | None

    def rows(self, part: slice | npt.NDArray[np.int64]) -> Chunk:
        """Return some of the images."""
        lists = None if self.lists is None else self.lists[part]
        return Chunk(self.ids[part], self.vectors[part], lists)

    def bases(self) -> Iterator[tuple[int | None, Base]]:
        """Yield the images to search of each list, or all of them with None."""
        if self.lists is None:
            yield None, build_base(self.vectors, self.ids)
            return
        order = stable_order(self.lists)
        numbers, starts = np.unique(self.lists[order], return_index=True)
        for number, (low, high) in zip(
            numbers.tolist(), pairwise([*starts.tolist(), len(order)]), strict=True
        ):
            rows = order[low:high]
            yield number, build_base(self.vectors[rows], self.ids[rows])


def read_chunks(pool: Sequence[PoolPart], rows: int) -> Iterator[Chunk]:
    """Yield the images of parts of the pool, `rows` at a time; the next ones are read meanwhile."""
    pieces = (piece for part in pool for piece in _pieces(part, rows))
    yield from _read_ahead(_of_size(pieces, rows))


def read_shard(shard: Shard) -> Chunk:
    """Return the images of a shard that are searched."""
    numbers, ids, vectors = read_numbered_vectors(shard.embeddings, shard.eligible)
    lists = None if shard.lists is None else read_list_ids(shard.lists, numbers)
    return Chunk(ids, vectors, lists)


def _pieces(part: PoolPart, rows: int) -> Iterator[Chunk]:
    if isinstance(part, Shard):
        yield read_shard(part)
        return
    for batch in part.batches(["list", "image_id", "vector"], rows=rows):
        lists = batch.column("list").to_numpy()
        yield Chunk(to_ids(batch.column("image_id")), vector_matrix(batch.column("vector")), lists)


def _of_size(pieces: Iterable[Chunk], rows: int) -> Iterator[Chunk]:
    """Yield the same images in chunks of `rows`, the last one with what is left."""
    waiting: list[Chunk] = []
    for piece in pieces:
        if not len(piece.ids):
            continue
        waiting.append(piece)
        while sum(len(w.ids) for w in waiting) >= rows:
            chunk = _concat(waiting)
            yield chunk.rows(slice(0, rows))
            waiting = [chunk.rows(slice(rows, None))]
    if sum(len(w.ids) for w in waiting):
        yield _concat(waiting)


def _concat(chunks: Sequence[Chunk]) -> Chunk:
    chunks = [chunk for chunk in chunks if len(chunk.ids)]
    if len(chunks) == 1:
        return chunks[0]
    ids, vectors, lists = zip(*chunks, strict=True)
    known = [numbers for numbers in lists if numbers is not None]
    return Chunk(
        np.concatenate(ids), np.concatenate(vectors), np.concatenate(known) if known else None
    )


def _read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items, of which the next one is made by another thread while one is used."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, items, None)
        while (item := following.result()) is not None:
            following = reader.submit(next, items, None)
            yield item
