"""Kernels: arrays in, arrays out. Exact, and the same bits however the base is cut into shards."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Ids, RowNumbers, Vectors
from curation.engine.device import CPU

# More candidates than k, so that rounding in float32 cannot lose a neighbour before re-scoring.
SLACK = 16
# Products of a search from which screening them in bfloat16 saves more than torch takes to import.
SCREENED_FROM = 2**36
# Vectors hashed at once, so that their numbers stay in the cache.
HASHED = 2048
# Vectors gathered at once for re-scoring, in float64 values.
GATHER = 2**22


@dataclass(frozen=True)
class Candidates:
    """Near pairs, sorted by (query, falling similarity, id); arrays of shape (n,).

    `query` numbers the queries, `ids` names the base images, `similarity` is the float32 rounding of
    the float64 cosine.
    """

    query: npt.NDArray[np.int64]
    ids: Ids
    similarity: npt.NDArray[np.float32]

    def rank(self) -> npt.NDArray[np.int32]:
        """Return the rank of each pair among those of its query, from 1."""
        _, start, count = np.unique(self.query, return_index=True, return_counts=True)
        return (np.arange(len(self.query)) - np.repeat(start, count) + 1).astype(np.int32)


def joined(parts: list[Candidates]) -> Candidates:
    """Return candidates of different queries as one, in the order of the parts."""
    if not parts:
        return Candidates(np.empty(0, np.int64), np.empty(0, "S32"), np.empty(0, np.float32))
    return Candidates(
        np.concatenate([p.query for p in parts]),
        np.concatenate([p.ids for p in parts]),
        np.concatenate([p.similarity for p in parts]),
    )


def merge(parts: list[Candidates], k: int) -> Candidates:
    """Return the k best of each query over several parts of the base; an image counts once."""
    found = joined(parts)
    order = np.lexsort((found.ids, -found.similarity, found.query))
    query, ids, similarity = found.query[order], found.ids[order], found.similarity[order]
    # Rows of the same image have the same vector, so its repeats stand next to each other.
    repeat = np.zeros(len(query), dtype=bool)
    repeat[1:] = (query[1:] == query[:-1]) & (ids[1:] == ids[:-1])
    sorted_once = Candidates(query[~repeat], ids[~repeat], similarity[~repeat])
    best = sorted_once.rank() <= k
    return Candidates(sorted_once.query[best], sorted_once.ids[best], sorted_once.similarity[best])


@dataclass(frozen=True)
class Base:
    """Images to search: distinct vectors, and the images that each of them belongs to, by id.

    Pictures with the very same vector would tie without end; kept together they cannot push each other
    out of a list of candidates.
    """

    vectors: Vectors
    ids: Ids
    start: RowNumbers
    count: RowNumbers
    first: RowNumbers
    """Row of each distinct vector among those that the base was built of."""


def build_base(vectors: Vectors, ids: Ids) -> Base:
    """Group (n, dim) vectors and their image ids (n,) by distinct vector."""
    rows = np.ascontiguousarray(vectors)
    _, first, group = np.unique(_hashes(rows), return_index=True, return_inverse=True)
    if not np.array_equal(rows, rows[first[group]]):
        # Two different vectors with one hash: slower, by the bytes themselves.
        keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    order = np.lexsort((ids, group))
    ids, group = ids[order], group[order]
    fresh = np.ones(len(ids), dtype=bool)
    fresh[1:] = (group[1:] != group[:-1]) | (ids[1:] != ids[:-1])
    ids, group = ids[fresh], group[fresh]
    _, start, count = np.unique(group, return_index=True, return_counts=True)
    return Base(rows[first], ids, start, count, first)


def _hashes(rows: Vectors) -> npt.NDArray[np.uint64]:
    """Return a number for each vector (n, dim), equal for equal ones: a product modulo 2^64."""
    bits = rows.view(f"u{rows.dtype.itemsize}")
    odd = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], np.uint64) * 2 + 1
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), HASHED):
        part = slice(start, start + HASHED)
        hashes[part] = (bits[part].astype(np.uint64) * odd).sum(axis=1, dtype=np.uint64)
    return hashes


def search(
    queries: Vectors, base: Base, k: int, at_least: float = -2.0, device: str = CPU
) -> Candidates:
    """Return the k nearest images of each query by cosine similarity (unit vectors).

    Ties go to the smaller id. Candidates are found in float32 and scored again in float64, each pair
    by itself, so that neither the order nor the company of the rows changes a bit.
    """
    if not len(queries) or not len(base.vectors):
        return merge([], k)
    if queries.size * len(base.vectors) >= SCREENED_FROM:
        # torch takes seconds to import, and a small search does without.
        from curation.algorithms.arrays import screened_products as screened

        if screened.is_faster(device):
            # What the screen takes for less than that by its rounding alone still passes.
            least = at_least - queries.shape[1] * 2.0**-23
            pairs = screened.candidate_pairs(queries, base.vectors, k, least, device)
            return rescore_pairs(queries, base, pairs, k, at_least)
    wanted = min(k + SLACK, len(base.vectors))
    scores, rows = faiss.knn(
        np.ascontiguousarray(queries, np.float32),
        np.ascontiguousarray(base.vectors, np.float32),
        wanted,
        metric=faiss.METRIC_INNER_PRODUCT,
    )
    return rescore(queries, base, rows, k, at_least, scores)


def rescore(
    queries: Vectors,
    base: Base,
    rows: RowNumbers,
    k: int,
    at_least: float = -2.0,
    scores: npt.NDArray[np.float32] | None = None,
) -> Candidates:
    """Return the k best of the candidate rows (n, c) of each query, −1 standing for none.

    `scores` are float32 similarities of the candidates, falling: those that rounding cannot bring
    among the k best are not scored again.
    """
    query = np.repeat(np.arange(len(queries)), rows.shape[1])
    hopeful = rows >= 0
    if scores is not None and rows.shape[1] > k:
        # Dot products of unit vectors in float32 err by less than dim · 2^-23 (Higham 2002, 3.1).
        error = queries.shape[1] * 2.0**-23
        hopeful &= scores >= np.maximum(scores[:, k - 1 : k] - 2 * error, at_least - error)
    known = hopeful.ravel()
    return rescore_pairs(queries, base, (query[known], rows.ravel()[known]), k, at_least)


def rescore_pairs(
    queries: Vectors,
    base: Base,
    pairs: tuple[RowNumbers, RowNumbers],
    k: int,
    at_least: float = -2.0,
) -> Candidates:
    """Return the k best of some candidate pairs (query, base row), each shape (m,), of each query."""
    query, group = pairs
    similarity = exact_similarity(queries, base.vectors, query, group)
    keep = similarity >= at_least
    query, group, similarity = query[keep], group[keep], similarity[keep]
    # Of a vector that many images share, no query needs more than the k first.
    count = np.minimum(base.count[group], k)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    found = Candidates(
        np.repeat(query, count),
        base.ids[np.repeat(base.start[group], count) + within],
        np.repeat(similarity, count),
    )
    return merge([found], k)


def exact_similarity(
    queries: Vectors, base: Vectors, query: RowNumbers, row: RowNumbers
) -> npt.NDArray[np.float32]:
    """Return the float64 dot product of each pair (m,), rounded to float32."""
    found = np.empty(len(query), dtype=np.float32)
    step = max(1, GATHER // base.shape[1])
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        left, right = queries[query[part]], base[row[part]]
        found[part] = np.einsum("md,md->m", left.astype(np.float64), right.astype(np.float64))
    return found
