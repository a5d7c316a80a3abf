"""Kernels: arrays in, arrays out. Exact, and the same bits however the base is cut into shards."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from curation.vectors import Ids, Vectors

# More candidates than k, so that rounding in float32 cannot lose a neighbour before re-scoring.
SLACK = 16
# Vectors gathered at once for re-scoring, in float64 values.
GATHER = 2**24


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


def merge(parts: list[Candidates], k: int) -> Candidates:
    """Return the k best of each query over several parts of the base; an image counts once."""
    query = np.concatenate([p.query for p in parts]) if parts else np.empty(0, np.int64)
    ids = np.concatenate([p.ids for p in parts]) if parts else np.empty(0, "S32")
    similarity = np.concatenate([p.similarity for p in parts]) if parts else np.empty(0, np.float32)
    order = np.lexsort((ids, -similarity, query))
    query, ids, similarity = query[order], ids[order], similarity[order]
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
    start: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]


def build_base(vectors: Vectors, ids: Ids) -> Base:
    """Group (n, dim) vectors and their image ids (n,) by distinct vector."""
    rows = np.ascontiguousarray(vectors)
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    order = np.lexsort((ids, group))
    ids, group = ids[order], group[order]
    fresh = np.ones(len(ids), dtype=bool)
    fresh[1:] = (group[1:] != group[:-1]) | (ids[1:] != ids[:-1])
    ids, group = ids[fresh], group[fresh]
    _, start, count = np.unique(group, return_index=True, return_counts=True)
    return Base(rows[first], ids, start, count)


def search(queries: Vectors, base: Base, k: int, at_least: float = -2.0) -> Candidates:
    """Return the k nearest images of each query by cosine similarity (unit vectors).

    Ties go to the smaller id. Candidates are found in float32 and scored again in float64, each pair
    by itself, so that neither the order nor the company of the rows changes a bit.
    """
    if not len(queries) or not len(base.vectors):
        return merge([], k)
    wanted = min(k + SLACK, len(base.vectors))
    _, rows = faiss.knn(
        np.ascontiguousarray(queries, np.float32),
        np.ascontiguousarray(base.vectors, np.float32),
        wanted,
        metric=faiss.METRIC_INNER_PRODUCT,
    )
    return rescore(queries, base, rows, k, at_least)


def rescore(
    queries: Vectors, base: Base, rows: npt.NDArray[np.int64], k: int, at_least: float = -2.0
) -> Candidates:
    """Return the k best of the candidate rows (n, c) of each query, −1 standing for none."""
    similarity = exact_similarity(queries, base.vectors, rows)
    query = np.repeat(np.arange(len(queries)), rows.shape[1])
    keep = (rows.ravel() >= 0) & (similarity.ravel() >= at_least)
    query, group = query[keep], rows.ravel()[keep]
    # Of a vector that many images share, no query needs more than the k first.
    count = np.minimum(base.count[group], k)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    found = Candidates(
        np.repeat(query, count),
        base.ids[np.repeat(base.start[group], count) + within],
        np.repeat(similarity.ravel()[keep], count),
    )
    return merge([found], k)


def exact_similarity(
    queries: Vectors, base: Vectors, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the float64 dot products of each query with its candidate rows, rounded to float32."""
    found = np.empty(rows.shape, dtype=np.float32)
    step = max(1, GATHER // (rows.shape[1] * base.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        candidates = base[rows[part]].astype(np.float64)
        found[part] = np.einsum("qd,qcd->qc", queries[part].astype(np.float64), candidates)
    return found
