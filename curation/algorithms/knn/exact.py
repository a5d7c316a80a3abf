"""Exact nearest-neighbour search by cosine similarity, on arrays.

Results are the same bits however the base is cut into shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.crowded import nearest_rows
from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.torch_import import NUMPY_WORK
from curation.algorithms.arrays.vectors import Floor, Ids, RowNumbers, Vectors, floor_of_each
from curation.algorithms.knn.order import by_similarity
from curation.engine.device import CPU
from curation.engine.sorted_arrays import positions_of_ranges, ranks_in_runs, run_starts

if TYPE_CHECKING:
    from curation.algorithms.arrays.nearest_pairs import QuerySteps

EXTRA_CANDIDATES = 16
"""Candidates beyond k, so that float32 rounding cannot lose a neighbour before it is scored again."""
SCREEN_FROM_PRODUCTS = 2**36
"""Multiplications from which the screen of torch saves more time than the import of torch costs. Below,
searches without a floor are as fast without it."""
SCREEN_WITH_FLOOR_FROM = 2**24
"""Multiplications from which the screen is faster where torch is there and few scores reach a floor."""
ROWS_PER_HASH_STEP = 2048
"""Vectors hashed at once: their hashed values stay in the cache."""
PAIRS_PER_STEP = 2**22
"""Pairs of a query and an image that are in memory at once before the k best are kept."""

Pairs = tuple[RowNumbers, RowNumbers]
"""Query and row of the base of candidate pairs, shape (m,) each."""


@dataclass(frozen=True)
class Candidates:
    """Pairs of a query and a base image, sorted by query, then by falling similarity, then by image id.

    Attributes:
        query: number of the query, shape (n,).
        ids: id of the base image, shape (n,).
        similarity: cosine similarity, computed in float64 and rounded to float32, shape (n,).
    """

    query: npt.NDArray[np.int64]
    ids: Ids
    similarity: npt.NDArray[np.float32]

    def rank(self) -> npt.NDArray[np.int32]:
        """Return the rank of each pair among the pairs of its query, from 1, shape (n,)."""
        return (ranks_in_runs(self.query) + 1).astype(np.int32)

    def without_self(self, query_ids: Ids) -> Candidates:
        """Return the pairs of two different images.

        Args:
            query_ids: image id of each query, shape (queries,).
        """
        other = query_ids[self.query] != self.ids
        return Candidates(self.query[other], self.ids[other], self.similarity[other])


def concat_candidates(parts: list[Candidates]) -> Candidates:
    """Return the candidates of parts that share no query, in the order of the parts."""
    if not parts:
        return Candidates(np.empty(0, np.int64), np.empty(0, "S32"), np.empty(0, np.float32))
    return Candidates(
        np.concatenate([part.query for part in parts]),
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.similarity for part in parts]),
    )


def merge(parts: list[Candidates], k: int) -> Candidates:
    """Return the k best candidates of each query over several parts of the base.

    An image that is in several parts counts once. Equal similarities are ordered by image id.

    Args:
        parts: candidates found in each part.
        k: candidates to keep for each query.
    """
    pairs = concat_candidates(parts)
    order = by_similarity(pairs.query, pairs.similarity, pairs.ids)
    query, ids, similarity = pairs.query[order], pairs.ids[order], pairs.similarity[order]
    # Rows of one image have the same vector and so the same similarity: they are next to each other.
    first = run_starts(query, ids)
    distinct = Candidates(query[first], ids[first], similarity[first])
    best = distinct.rank() <= k
    return Candidates(distinct.query[best], distinct.ids[best], distinct.similarity[best])


@dataclass(frozen=True)
class Base:
    """Images to search, grouped by distinct vector.

    Many images can share one vector, as blank pictures do. Each distinct vector is one candidate, so
    such images cannot push other neighbours out of a list of candidates.

    Attributes:
        vectors: distinct vectors, shape (g, dim).
        ids: image ids, grouped by vector, sorted and distinct within each group, shape (m,).
        start: where the ids of each vector begin, shape (g,).
        count: number of ids of each vector, shape (g,).
        first: row of each distinct vector among the vectors that the base was built from, shape (g,).
    """

    vectors: Vectors
    ids: Ids
    start: RowNumbers
    count: RowNumbers
    first: RowNumbers

    @cached_property
    def by_id(self) -> RowNumbers:
        """The rows of `vectors` in the order of the smallest id that each has, shape (g,)."""
        return np.argsort(self.ids[self.start], kind="stable")


def build_base(vectors: Vectors, ids: Ids) -> Base:
    """Group images by distinct vector.

    Args:
        vectors: unit vectors, shape (n, dim).
        ids: image id of each vector, shape (n,). An image may repeat.
    """
    rows = np.ascontiguousarray(vectors)
    _, first, group = np.unique(_hash_vectors(rows), return_index=True, return_inverse=True)
    if not np.array_equal(rows, rows[first[group]]):
        # Two different vectors have the same hash: group by the bytes of the vectors, which is slower.
        keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    order = np.lexsort((ids, group))
    ids, group = ids[order], group[order]
    distinct = run_starts(group, ids)
    ids, group = ids[distinct], group[distinct]
    _, start, count = np.unique(group, return_index=True, return_counts=True)
    return Base(rows[first], ids, start, count, first)


def _hash_vectors(rows: Vectors) -> npt.NDArray[np.uint64]:
    """Return a hash of each vector (n, dim), shape (n,): a dot product modulo 2^64."""
    bits = rows.view(f"u{rows.dtype.itemsize}")
    odd = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], np.uint64) * 2 + 1
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), ROWS_PER_HASH_STEP):
        part = slice(start, start + ROWS_PER_HASH_STEP)
        hashes[part] = (bits[part].astype(np.uint64) * odd).sum(axis=1, dtype=np.uint64)
    return hashes


def search(
    queries: Vectors, base: Base, k: int, at_least: Floor = -2.0, device: str = CPU
) -> Candidates:
    """Return the k nearest images of each query by cosine similarity.

    Candidates are found in lower precision and scored again in float64, each pair by itself. The result
    therefore does not depend on the order of the rows or on what else is searched. Equal similarities
    are ordered by image id.

    Args:
        queries: unit vectors, shape (n, dim).
        base: images to search.
        k: neighbours of each query.
        at_least: smallest cosine similarity of a neighbour, of all queries or of each, (n,).
        device: `cpu` or `cuda[:n]`.

    Returns:
        At most k pairs for each query.

    Examples:
        >>> vectors = np.array([[1, 0], [0, 1]], np.float16)
        >>> base = build_base(vectors, np.array([b"a", b"b"], "S32"))
        >>> search(vectors[:1], base, k=1).ids.tolist()
        [b'a']
    """
    if not len(queries) or not len(base.vectors):
        return merge([], k)
    if device != CPU or _pays_to_screen(queries.size * len(base.vectors), at_least):
        from curation.algorithms.arrays import screen_choice
        from curation.algorithms.arrays.nearest_pairs import QuerySteps

        if screen_choice.is_faster(device):
            return search_steps(QuerySteps(queries, device), base, k, at_least)
    # Where a GPU searches, FAISS need not be installed.
    import faiss

    candidate_count = min(k + EXTRA_CANDIDATES, len(base.vectors))
    scores, rows = faiss.knn(
        np.ascontiguousarray(queries, np.float32),
        np.ascontiguousarray(base.vectors, np.float32),
        candidate_count,
        metric=faiss.METRIC_INNER_PRODUCT,
    )
    crowded = np.empty(0, np.int64)
    if candidate_count < len(base.vectors):
        crowded = crowded_queries(scores, k, queries.shape[1], at_least)
        rows[crowded] = -1
    pairs = possible_candidates(rows, scores, k, queries.shape[1], at_least)
    floors = floor_of_each(at_least, len(queries))[crowded]
    query, row = nearest_rows(queries[crowded], base.vectors, base.by_id, k, floors)
    pairs = np.concatenate([pairs[0], crowded[query]]), np.concatenate([pairs[1], row])
    return rescore_pairs(queries, base, pairs, k, at_least)


def load_screen(products: float) -> None:
    """Import torch if its screen saves more time in some searches than the import takes.

    Args:
        products: multiplications of all these searches.
    """
    if products >= SCREEN_FROM_PRODUCTS:
        import torch  # noqa: F401


def _pays_to_screen(products: int, at_least: Floor) -> bool:
    has_floor = NUMPY_WORK.is_over and np.min(at_least) > 0
    return products >= (SCREEN_WITH_FLOOR_FROM if has_floor else SCREEN_FROM_PRODUCTS)


def search_steps(queries: QuerySteps, base: Base, k: int, at_least: Floor = -2.0) -> Candidates:
    """Return what `search` returns, for queries that may be on a device already, without FAISS.

    Args:
        queries: unit vectors, (n, dim), at least one.
        base: images to search, at least one.
        k: neighbours of each query.
        at_least: smallest cosine similarity of a neighbour, of all queries or of each, (n,).
    """
    # The screen gets a lower threshold, because its own rounding may make a score smaller.
    threshold = at_least - base.vectors.shape[1] * 2.0**-23
    pairs = queries.candidate_pairs(base.vectors, k, threshold, base.by_id)
    return rescore_pairs(queries.vectors, base, pairs, k, at_least, queries.device)


def crowded_queries(
    scores: npt.NDArray[np.float32], k: int, dim: int, at_least: Floor = -2.0
) -> RowNumbers:
    """Return the queries whose last candidate is within rounding of the k-th: others may be as near.

    Args:
        scores: float32 similarities of the candidates, falling, shape (n, c), c > k.
        k: neighbours of each query.
        dim: dimension of the vectors.
        at_least: smallest cosine similarity of a neighbour, of all queries or of each.
    """
    least = np.maximum(scores[:, k - 1] - 2 * rounding_bound(dim), at_least - rounding_bound(dim))
    return np.flatnonzero(scores[:, -1] >= least)


def possible_candidates(
    rows: RowNumbers,
    scores: npt.NDArray[np.float32] | None,
    k: int,
    dim: int,
    at_least: Floor = -2.0,
) -> Pairs:
    """Return the pairs of queries and their candidates that rounding can bring among the k best.

    Args:
        rows: candidates of each query, shape (n, c); −1 for none.
        scores: float32 similarities of the candidates, falling, shape (n, c); None keeps all.
        k: neighbours of each query.
        dim: dimension of the vectors.
        at_least: smallest cosine similarity of a neighbour, of all queries or of each.
    """
    possible = rows >= 0
    if scores is not None and rows.shape[1] > k:
        # Float32 dot products of unit vectors err by less than this (Higham 2002, section 3.1).
        error = rounding_bound(dim)
        least = np.maximum(scores[:, k - 1] - 2 * error, at_least - error)
        possible &= scores >= least[:, None]
    query, column = np.nonzero(possible)
    return query, rows[query, column]


def rescore_pairs(
    queries: Vectors,
    base: Base,
    pairs: Pairs,
    k: int,
    at_least: Floor = -2.0,
    device: str = CPU,
) -> Candidates:
    """Return the k best of some candidate pairs for each query, scored again in float64.

    Args:
        queries: unit vectors, shape (n, dim).
        base: images to search.
        pairs: query and row of `base.vectors` of each candidate, shape (m,) each.
        k: neighbours of each query.
        at_least: smallest cosine similarity of a neighbour, of all queries or of each.
        device: `cpu` or `cuda[:n]`.
    """
    query, group = pairs
    similarity = exact_similarity(queries, base.vectors, query, group, device)
    order = by_similarity(query, similarity, base.ids[base.start[group]])
    floors = floor_of_each(at_least, len(queries))[query]
    order = order[similarity[order] >= floors[order]]
    # Each row brings an image at least, and the first is its best: no query needs more than k rows.
    order = order[ranks_in_runs(query[order]) < k]
    query, group, similarity = query[order], group[order], similarity[order]
    if (base.count[group] == 1).all():
        return Candidates(query, base.ids[base.start[group]], similarity)
    parts = [
        merge([_images_of(query[part], group[part], similarity[part], base, k)], k)
        for part in _query_ranges(query, np.minimum(base.count[group], k))
    ]
    return concat_candidates(parts)


def _images_of(
    query: RowNumbers,
    group: RowNumbers,
    similarity: npt.NDArray[np.float32],
    base: Base,
    k: int,
) -> Candidates:
    """Return pairs of queries and images from pairs of queries and distinct vectors."""
    # No query needs more than the first k of the images that share a vector.
    pair, image = positions_of_ranges(base.start[group], np.minimum(base.count[group], k))
    return Candidates(query[pair], base.ids[image], similarity[pair])


def _query_ranges(query: RowNumbers, count: RowNumbers) -> Iterator[slice]:
    """Yield ranges of whole queries with about PAIRS_PER_STEP images each.

    Args:
        query: query of each pair, ascending, (m,).
        count: images of each pair, (m,).
    """
    starts = np.flatnonzero(run_starts(query))
    before = (np.cumsum(count) - count)[starts]
    step = before // PAIRS_PER_STEP
    firsts = starts[run_starts(step)] if len(starts) else starts
    for first, end in pairwise([*firsts.tolist(), len(query)]):
        yield slice(first, end)
