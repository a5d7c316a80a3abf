"""One pass over the pool: what planted copies and sampled originals are near to, level by level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools, Ids, Vectors
from curation.algorithms.knn.exact import (
    Candidates,
    build_base,
    concat_candidates,
    exact_similarity,
    merge,
    search,
)
from curation.algorithms.knn.hamming import BITS, range_search
from curation.algorithms.knn.params import MAX_HAMMING_DISTANCE
from curation.engine.progress import Progress
from curation.inspect.audit.inject import Planted
from curation.inspect.audit.pool import Hashes, Pool, Sample, gather
from curation.recipe import Recipe
from curation.stages.dedup.params import Near

MOST_TIES = 64
"""Pictures within MAX_HAMMING_DISTANCE bits that are kept of one original, the nearest first."""
BLOCK = 4096
"""Queries searched at once."""


@dataclass(frozen=True)
class Stored:
    """Hash (n, 32) and vector (n, dim) of each sampled original; only where `hashed` and `embedded`."""

    hashes: Hashes
    hashed: Bools
    vectors: Vectors
    embedded: Bools


@dataclass(frozen=True)
class Found:
    """What is near.

    `by_hash` and `by_vector` are pairs of an original (`query`, its number in the sample) and another
    pool picture, with 1 − distance / 256 and with the cosine. `distance` in bits, `similarity` and
    `rank`, each (m,), are of a planted copy to its own original; −1, NaN and 0 where there is none.
    """

    by_hash: Candidates
    by_vector: Candidates
    distance: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]
    rank: npt.NDArray[np.int64]


def read_stored(pool: Pool, sample: Sample) -> Stored:
    """Return what the run's tables hold of the sampled originals."""
    names = sorted(set(sample.fragment))
    hashes = gather(pool.hashes, names, sample.ids) if pool.has_hashes else {}
    vectors = gather(pool.vectors, names, sample.ids) if pool.embeddings else {}
    keys = [bytes(i) for i in sample.ids]
    no_hash = np.zeros(BITS // 8, np.uint8)
    no_vector = np.zeros_like(next(iter(vectors.values()), np.zeros(0, np.float16)))
    return Stored(
        hashes=np.stack([hashes.get(k, no_hash) for k in keys]),
        hashed=np.array([k in hashes for k in keys], bool),
        vectors=np.stack([vectors.get(k, no_vector) for k in keys]),
        embedded=np.array([k in vectors for k in keys], bool),
    )


def scan(pool: Pool, sample: Sample, stored: Stored, planted: Planted, recipe: Recipe) -> Found:
    """Search the pool, a fragment at a time.

    Memory holds 44 bytes a candidate: k + 1 a copy and an original for vectors, and MOST_TIES an
    original for hashes.
    """
    near = recipe.dedup.near
    by_hash = merge([], MOST_TIES)
    queries = _Queries(sample, stored, planted, near) if near else None
    with Progress("search the pool", len(pool.fragments)) as progress:
        for done, name in enumerate(pool.fragments, start=1):
            if pool.has_hashes:
                found = _hash_ties(sample.ids, stored, *pool.hashes(name))
                by_hash = merge([by_hash, found], MOST_TIES)
            if queries:
                queries.search(*pool.vectors(name))
            progress.reached(done)
    distance = np.full(len(planted.original), -1)
    both = planted.hashed & stored.hashed[planted.original]
    own = stored.hashes[planted.original[both]]
    distance[both] = np.bitwise_count(planted.hashes[both] ^ own).sum(axis=1, dtype=np.int64)
    if queries is None:
        nothing = np.full(len(planted.original), np.nan, np.float32)
        return Found(by_hash, merge([], 1), distance, nothing, np.zeros_like(distance))
    by_vector, rank = queries.found()
    return Found(by_hash, by_vector, distance, _own_similarity(stored, planted), rank)


def _hash_ties(own: Ids, stored: Stored, ids: Ids, hashes: Hashes) -> Candidates:
    """Return which other pictures of a fragment (ids, hashes) are how near to which originals."""
    numbers = np.flatnonzero(stored.hashed)
    query, row, bits = range_search(stored.hashes[numbers], hashes, MAX_HAMMING_DISTANCE)
    strength = (1 - bits / BITS).astype(np.float32)
    other = own[numbers[query]] != ids[row]
    found = Candidates(numbers[query[other]], ids[row[other]], strength[other])
    return merge([found], MOST_TIES)


def _own_similarity(stored: Stored, planted: Planted) -> npt.NDArray[np.float32]:
    found = np.full(len(planted.original), np.nan, np.float32)
    both = np.flatnonzero(planted.embedded & stored.embedded[planted.original])
    found[both] = exact_similarity(planted.vectors, stored.vectors, both, planted.original[both])
    return found


class _Queries:
    """The vectors of originals, then of copies, and the best of the pool that each has met so far."""

    def __init__(self, sample: Sample, stored: Stored, planted: Planted, near: Near) -> None:
        self._sample, self._planted = sample, planted
        self._k, self._floor = near.k, near.floor
        originals, copies = np.flatnonzero(stored.embedded), np.flatnonzero(planted.embedded)
        self._number = np.concatenate([originals, len(sample) + copies])
        parts = [p for p in (stored.vectors[originals], planted.vectors[copies]) if len(p)]
        self._vectors = np.concatenate(parts) if parts else stored.vectors[:0]
        starts = range(0, len(self._number), BLOCK)
        self._best = {start: merge([], near.k + 1) for start in starts}

    def search(self, ids: Ids, vectors: Vectors) -> None:
        """Take the queries past the vectors of one fragment."""
        base = build_base(vectors, ids)
        # One more than k, since an original finds itself.
        for start, best in self._best.items():
            block = self._vectors[start : start + BLOCK]
            found = search(block, base, self._k + 1, self._floor)
            self._best[start] = merge([best, found], self._k + 1)

    def found(self) -> tuple[Candidates, npt.NDArray[np.int64]]:
        """Return the k nearest others of each original, and the rank of its original for each copy."""
        parts = [
            Candidates(self._number[best.query + start], best.ids, best.similarity)
            for start, best in self._best.items()
        ]
        best = concat_candidates(parts)
        rank, size = best.rank(), len(self._sample)
        owner = np.concatenate([np.arange(size), self._planted.original])
        itself = best.ids == self._sample.ids[owner[best.query]]
        of_original = best.query < size
        others = of_original & ~itself
        ties = Candidates(best.query[others], best.ids[others], best.similarity[others])
        ranks = np.zeros(len(self._planted.original), np.int64)
        hit = ~of_original & itself & (rank <= self._k)
        ranks[best.query[hit] - size] = rank[hit]
        return merge([ties], self._k), ranks
