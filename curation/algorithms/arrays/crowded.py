"""The nearest rows of queries with so many near-equal rows that no screen can tell them apart.

Rows are scored in float64, some thousand at a time, and only the k best of each query are kept. So the
memory does not depend on how many rows are equally near.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.products import exact_similarity, rounded_products
from curation.algorithms.arrays.vectors import Floor, Floors, RowNumbers, Vectors, floor_of_each
from curation.engine.sorted_arrays import ranks_in_runs

QUERIES_AT_ONCE = 256
ROWS_AT_ONCE = (1024, 8192)
"""Rows that are scored at once, at first and later: the first ones are all candidates."""


def nearest_rows(
    queries: Vectors, base: Vectors, order: RowNumbers, k: int, at_least: Floor = -2.0
) -> tuple[RowNumbers, RowNumbers]:
    """Return the k nearest rows of each query.

    Args:
        queries: shape (n, dim).
        base: shape (b, dim).
        order: rows of `base` that are searched, (m,). Of equally near ones the earlier is better.
        k: rows of each query.
        at_least: smallest similarity, of all queries or of each, (n,).

    Returns:
        Query and row of `base` of each pair, (p,) each, sorted by query.
    """
    floors = floor_of_each(at_least, len(queries))
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        some = slice(start, start + QUERIES_AT_ONCE)
        query, place = _nearest_places(queries[some], base, order, k, floors[some])
        parts.append((query + start, order[place]))
    query, row = (np.concatenate(part) for part in zip(*parts, strict=True))
    return query, row


def _nearest_places(
    queries: Vectors, base: Vectors, order: RowNumbers, k: int, floors: Floors
) -> tuple[RowNumbers, RowNumbers]:
    """Return the pairs of `nearest_rows` for few queries, with places in `order`."""
    query, place = np.empty(0, np.int64), np.empty(0, np.int64)
    score = np.empty(0, np.float32)
    least = np.nextafter(floors, np.float32(-9))
    for part in _parts(len(order)):
        scores = _similarities(queries, base[order[part]])
        # A later row of the same similarity is not better than the k-th.
        better, column = np.nonzero((scores > least[:, None]) & (scores >= floors[:, None]))
        query = np.concatenate([query, better])
        place = np.concatenate([place, column + part.start])
        score = np.concatenate([score, scores[better, column]])
        best = np.lexsort((place, -score, query))
        rank = ranks_in_runs(query[best])
        kth = best[rank == k - 1]
        least[query[kth]] = score[kth]
        best = best[rank < k]
        query, place, score = query[best], place[best], score[best]
    return query, place


def _parts(rows: int) -> Iterator[slice]:
    start, (size, most) = 0, ROWS_AT_ONCE
    while start < rows:
        yield slice(start, min(start + size, rows))
        start, size = start + size, most


def _similarities(queries: Vectors, rows: Vectors) -> npt.NDArray[np.float32]:
    """Return the similarity of every pair, the same bits as `exact_similarity`, shape (n, m)."""
    scores, unsure = rounded_products(queries, rows)
    query, row = np.nonzero(unsure)
    scores[query, row] = exact_similarity(queries, rows, query, row)
    return scores
