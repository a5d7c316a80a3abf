"""Searches the pool once for what is near to the injected copies and to the sampled originals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.arrays.vectors import Ids, Vectors
from curation.algorithms.knn.exact import (
    Candidates,
    build_base,
    concat_candidates,
    merge,
    search,
)
from curation.algorithms.knn.hamming import range_search
from curation.algorithms.knn.hash_parts import BITS, Hashes
from curation.algorithms.knn.params import MAX_HAMMING_DISTANCE
from curation.inspect.audit.copies import Detections, InjectedCopies, StoredOriginals
from curation.inspect.audit.pool import Pool, Sample, gather_by_id
from curation.progress import ProgressBar
from curation.recipe import Recipe
from curation.stages.dedup.params import Near

MAX_HASH_PAIRS = 64
"""Pool images within MAX_HAMMING_DISTANCE bits that are kept for one original, the nearest first."""
QUERY_BLOCK = 4096
"""Queries searched at once."""


def read_originals(pool: Pool, sample: Sample) -> StoredOriginals:
    """Return the stored hashes and vectors of the sampled images."""
    fragments = sorted(set(sample.fragment))
    hashes = gather_by_id(pool.hashes, fragments, sample.ids) if pool.has_hashes else {}
    vectors = gather_by_id(pool.vectors, fragments, sample.ids) if pool.embeddings else {}
    keys = [bytes(i) for i in sample.ids]
    no_hash = np.zeros(BITS // 8, np.uint8)
    no_vector = np.zeros_like(next(iter(vectors.values()), np.zeros(0, np.float16)))
    return StoredOriginals(
        hashes=np.stack([hashes.get(k, no_hash) for k in keys]),
        hashed=np.array([k in hashes for k in keys], bool),
        vectors=np.stack([vectors.get(k, no_vector) for k in keys]),
        embedded=np.array([k in vectors for k in keys], bool),
    )


def detect(
    pool: Pool,
    sample: Sample,
    originals: StoredOriginals,
    copies: InjectedCopies,
    recipe: Recipe,
) -> Detections:
    """Search the pool, a fragment at a time, for what is near to copies and originals.

    Memory holds 44 bytes per candidate: k + 1 candidates per copy and per original for vectors, and
    MAX_HASH_PAIRS per original for hashes.
    """
    near = recipe.dedup.near
    by_hash = merge([], MAX_HASH_PAIRS)
    vector_search = _VectorSearch(sample, originals, copies, near) if near else None
    with ProgressBar("search the pool", len(pool.fragments)) as progress:
        for done, name in enumerate(pool.fragments, start=1):
            if pool.has_hashes:
                pairs = _near_hashes(sample.ids, originals, *pool.hashes(name))
                by_hash = merge([by_hash, pairs], MAX_HASH_PAIRS)
            if vector_search:
                vector_search.search(*pool.vectors(name))
            progress.set_done(done)
    distance = _distance_to_original(originals, copies)
    if vector_search is None:
        no_similarity = np.full(len(copies), np.nan, np.float32)
        return Detections(by_hash, merge([], 1), distance, no_similarity, np.zeros_like(distance))
    by_vector, rank = vector_search.results()
    similarity = _similarity_to_original(originals, copies)
    return Detections(by_hash, by_vector, distance, similarity, rank)


def _near_hashes(
    sample_ids: Ids, originals: StoredOriginals, ids: Ids, hashes: Hashes
) -> Candidates:
    """Return pairs of an original and another image (ids, hashes) with near hashes."""
    numbers = np.flatnonzero(originals.hashed)
    query, row, distance = range_search(originals.hashes[numbers], hashes, MAX_HAMMING_DISTANCE)
    similarity = (1 - distance / BITS).astype(np.float32)
    other = sample_ids[numbers[query]] != ids[row]
    pairs = Candidates(numbers[query[other]], ids[row[other]], similarity[other])
    return merge([pairs], MAX_HASH_PAIRS)


def _distance_to_original(
    originals: StoredOriginals, copies: InjectedCopies
) -> npt.NDArray[np.int64]:
    distance = np.full(len(copies), -1)
    comparable = copies.hashed & originals.hashed[copies.original]
    original_hashes = originals.hashes[copies.original[comparable]]
    differing = np.bitwise_count(copies.hashes[comparable] ^ original_hashes)
    distance[comparable] = differing.sum(axis=1, dtype=np.int64)
    return distance


def _similarity_to_original(
    originals: StoredOriginals, copies: InjectedCopies
) -> npt.NDArray[np.float32]:
    similarity = np.full(len(copies), np.nan, np.float32)
    comparable = np.flatnonzero(copies.embedded & originals.embedded[copies.original])
    similarity[comparable] = exact_similarity(
        copies.vectors, originals.vectors, comparable, copies.original[comparable]
    )
    return similarity


class _VectorSearch:
    """The nearest pool images of every original and every copy, fragment by fragment.

    Queries are numbered: first the originals by their number in the sample, then the copies.
    """

    def __init__(
        self, sample: Sample, originals: StoredOriginals, copies: InjectedCopies, near: Near
    ) -> None:
        self._sample, self._copies = sample, copies
        self._k, self._floor = near.k, near.floor
        of_originals, of_copies = (
            np.flatnonzero(originals.embedded),
            np.flatnonzero(copies.embedded),
        )
        self._number = np.concatenate([of_originals, len(sample) + of_copies])
        parts = [v for v in (originals.vectors[of_originals], copies.vectors[of_copies]) if len(v)]
        self._vectors = np.concatenate(parts) if parts else originals.vectors[:0]
        starts = range(0, len(self._number), QUERY_BLOCK)
        self._best = {start: merge([], near.k + 1) for start in starts}

    def search(self, ids: Ids, vectors: Vectors) -> None:
        """Search the vectors of one fragment."""
        base = build_base(vectors, ids)
        # One more than k, since an original finds itself.
        for start, best in self._best.items():
            block = self._vectors[start : start + QUERY_BLOCK]
            candidates = search(block, base, self._k + 1, self._floor)
            self._best[start] = merge([best, candidates], self._k + 1)

    def results(self) -> tuple[Candidates, npt.NDArray[np.int64]]:
        """Return the k nearest other images of each original, and the rank of its original per copy."""
        best = concat_candidates(
            [
                Candidates(self._number[block.query + start], block.ids, block.similarity)
                for start, block in self._best.items()
            ]
        )
        original = np.concatenate([np.arange(len(self._sample)), self._copies.original])
        is_original = best.ids == self._sample.ids[original[best.query]]
        of_copy = best.query >= len(self._sample)
        others = ~of_copy & ~is_original
        pairs = Candidates(best.query[others], best.ids[others], best.similarity[others])
        return merge([pairs], self._k), self._ranks(best, of_copy & is_original)

    def _ranks(self, best: Candidates, is_hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the rank of the hit of each copy, (m,); 0 where it is not among the k nearest."""
        rank = best.rank()
        hits = is_hit & (rank <= self._k)
        ranks = np.zeros(len(self._copies), np.int64)
        ranks[best.query[hits] - len(self._sample)] = rank[hits]
        return ranks
