"""How a search of the pool is divided into tasks, and how much work it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

KEPT_BYTES = 200
"""Bytes of memory for each neighbour that a block keeps, while it is merged with new ones."""
PROBE_BYTES = 16
"""Bytes of memory for each list that a query probes."""
CANDIDATE_BYTES = 44
"""Bytes of a stored candidate: query, image id, similarity."""

Layout = Literal["stream", "cells"]
"""`stream`: the pool streams past each block of queries as it lies in its fragments. `cells`: its
vectors are first brought into the order of their lists, and then stream past."""


@dataclass(frozen=True)
class SearchLimits:
    """Bounds on what one task of a search reads, holds or writes. No row depends on them.

    Attributes:
        block_bytes: memory of a block of queries: their vectors, neighbours and probed lists.
        part_bytes: vectors of a part of the queries, or of lists, that is written by one task.
        chunk_bytes: vectors of the pool that are compared at once.
        candidates: stored candidates, unless so many times `slices` are kept.
        slices: slices of the pool if there are many queries: each stores its nearest for each query.
        merged_rows: candidates that one task merges, about.
        batch_rows: rows of a batch.
        fragments: fragments of the pool that are named to one task.
    """

    block_bytes: int = 2**29
    part_bytes: int = 2**28
    chunk_bytes: int = 2**27
    candidates: int = 2**24
    slices: int = 8
    merged_rows: int = 2**21
    batch_rows: int = 2**16
    fragments: int = 4096

    @classmethod
    def of_block(cls, gib: float) -> SearchLimits:
        """Return the bounds for blocks of so many GiB."""
        return cls(block_bytes=int(gib * 2**30))

    def part_rows(self, dim: int) -> int:
        """Return how many vectors a part has, about."""
        return max(1, self.part_bytes // (2 * dim))

    def chunk_rows(self, dim: int) -> int:
        """Return how many vectors of the pool are compared at once."""
        return max(1, self.chunk_bytes // (2 * dim))

    def block_rows(self, k: int, dim: int, nprobe: int) -> int:
        """Return how many queries a block has at most.

        Args:
            k: neighbours of each query.
            dim: dimension of the vectors.
            nprobe: lists that a query probes; 0 for exact search.
        """
        return max(1, self.block_bytes // (2 * dim + KEPT_BYTES * k + PROBE_BYTES * nprobe))

    def slice_count(self, kept: float, sources: int) -> int:
        """Return into how many slices the pool is divided at most.

        Args:
            kept: neighbours that all queries keep.
            sources: fragments or parts of the pool.
        """
        affordable = int(max(self.slices, self.candidates // max(kept, 1)))
        return max(1, min(sources, affordable), -(-sources // self.fragments))


@dataclass(frozen=True)
class SearchSize:
    """What the work of a search follows from.

    Attributes:
        queries: number of queries by the number of neighbours that each wants.
        pool: rows of the fragments of the pool.
        eligible: rows of the pool that are searched.
        fragments: fragments of the pool.
        dim: dimension of the vectors.
        nlist: lists of the index; 0 for exact search.
        nprobe: lists that a query probes; 0 for exact search.
    """

    queries: Mapping[int, float]
    pool: float
    eligible: float
    fragments: int
    dim: int
    nlist: int = 0
    nprobe: int = 0

    @property
    def query_count(self) -> float:
        """Number of queries."""
        return sum(self.queries.values())

    @property
    def kept(self) -> float:
        """Neighbours that all queries keep."""
        return sum(count * min(k, self.eligible) for k, count in self.queries.items())

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector."""
        return 2 * self.dim


@dataclass(frozen=True)
class SearchWork:
    """The work of a search by one layout.

    Attributes:
        layout: how queries and pool meet.
        blocks: blocks of queries; the pool streams once past each.
        sources: fragments of the pool, or parts of its lists.
        slices: slices of the pool at most.
        moved: bytes of vectors that tasks read, send and gather.
        stored: bytes of work tables.
        candidates: candidates that are stored at most.
        multiplications: of vectors with each other and with the centroids of lists.
    """

    layout: Layout
    blocks: int
    sources: int
    slices: int
    moved: float
    stored: float
    candidates: float
    multiplications: float

    @property
    def stored_candidates(self) -> float:
        """Bytes of the candidates that are stored at most."""
        return CANDIDATE_BYTES * self.candidates


def work_of(size: SearchSize, limits: SearchLimits, layout: Layout) -> SearchWork:
    """Count the work of a search.

    Each block of queries reads the pool once, and each slice of it reads the block. With an index, the
    vectors of the queries that probe a list are gathered once for each run of vectors of that list: for
    every chunk if the pool lies as it is, or once if it is in the order of lists. For that order the
    pool is read, sent and written once.
    """
    vector, queries = size.vector_bytes, size.query_count
    blocks = sum(
        int(-(-count // limits.block_rows(k, size.dim, size.nprobe)))
        for k, count in size.queries.items()
    )
    rows, sources = (size.pool, size.fragments)
    if layout == "cells":
        rows = size.eligible
        sources = int(-(-rows // limits.part_rows(size.dim)))
    slices = limits.slice_count(size.kept, max(1, sources))
    moved = vector * (blocks * rows + slices * queries)
    stored = vector * queries + 4.0 * size.nprobe * queries
    if size.nlist:
        chunk = limits.chunk_rows(size.dim)
        runs = 1.0
        if layout == "stream":
            runs = max(1.0, size.eligible / chunk) * min(1.0, chunk / size.nlist)
        moved += vector * queries * min(size.nprobe, size.nlist) * max(1.0, runs)
    if layout == "cells":
        moved += vector * (size.pool + size.eligible)
        stored += (vector + 36.0) * size.eligible
    candidates = slices * size.kept
    return SearchWork(
        layout=layout,
        blocks=blocks,
        sources=sources,
        slices=slices,
        moved=moved,
        stored=stored + CANDIDATE_BYTES * candidates,
        candidates=candidates,
        multiplications=_multiplications(size),
    )


def choose_layout(size: SearchSize, limits: SearchLimits) -> SearchWork:
    """Return the work of the layout that moves and stores fewer bytes; both give the same rows.

    An exact search always lets the pool stream past as it lies: there are no lists.
    """
    stream = work_of(size, limits, "stream")
    if not size.nlist:
        return stream
    cells = work_of(size, limits, "cells")
    return cells if cells.moved + cells.stored < stream.moved + stream.stored else stream


def _multiplications(size: SearchSize) -> float:
    if not size.nlist:
        return size.query_count * size.eligible * size.dim
    probed = min(1.0, size.nprobe / size.nlist)
    return size.query_count * size.dim * (size.nlist + size.eligible * probed)
