"""Initial centroids: a seeded choice of points that does not depend on the order of storage."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import numpy as np

from curation.algorithms.arrays.large_arrays import steps, take_rows
from curation.algorithms.arrays.seeded_order import seeded_keys, seeded_order
from curation.algorithms.arrays.vectors import Ids, RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import Doubles, Floats
from curation.engine.sorted_arrays import run_starts

Init = Literal["random", "kmeans++"]

SAMPLE_PER_CENTROID = 16
"""Points per centroid that k-means++ chooses among: it computes distances to all of them each time."""
DRAWN_AT_ONCE = (64, 1024)
"""Fewest and most points that k-means++ draws at once; in between, a quarter of those drawn so far."""
POINTS_PER_STEP = 8192
"""Points whose distances are computed at once."""


def init_sample_size(init: Init, clusters: int) -> int:
    """Return how many points `initial_centroids` should choose among."""
    return clusters * (SAMPLE_PER_CENTROID if init == "kmeans++" else 2)


def sampled_centroids(ids: Ids, vectors: Vectors, init: Init, clusters: int, seed: int) -> Floats:
    """Choose initial centroids among the points with the smallest seeded keys.

    Where many points are equal, too few of these may differ. Then the choice is among as many points of
    which no two are equal, those with the smallest keys.

    Args:
        ids: image ids, (n,).
        vectors: their vectors, (n, dim), as `round_to_grid` returns them.
        init: `random` or `kmeans++`.
        clusters: number of centroids.
        seed: of the recipe.

    Returns:
        Centroids, (k, dim) float32, as `initial_centroids` returns them.
    """
    count = init_sample_size(init, clusters)
    order = np.argsort(seeded_keys(ids, seed, "start"), kind="stable")[:count]
    candidates = take_rows(vectors, order, np.float32)
    chosen = initial_centroids(candidates, ids[order], init, clusters, seed)
    if len(chosen) == clusters or len(order) == len(ids):
        return chosen
    rows = first_different(ids, vectors, count, seed)
    return initial_centroids(take_rows(vectors, rows, np.float32), ids[rows], init, clusters, seed)


def first_different(ids: Ids, vectors: Vectors, count: int, seed: int) -> RowNumbers:
    """Return the points with the smallest seeded keys, no two of them equal, in the order of the keys.

    Args:
        ids: image ids, (n,).
        vectors: their vectors, (n, dim).
        count: number of points at most.
        seed: of the recipe.
    """
    order = np.lexsort((ids, seeded_keys(ids, seed, "start")))
    return order[_first_of_equal(vectors, order)][:count]


def initial_centroids(vectors: Floats, ids: Ids, init: Init, clusters: int, seed: int) -> Floats:
    """Choose points as initial centroids, no two of them equal.

    k-means++ (Arthur and Vassilvitskii 2007, k-means++: The Advantages of Careful Seeding, section 2.2)
    draws each centroid with a probability proportional to the squared distance to the nearest of those
    drawn before.

    Args:
        vectors: points to choose among, (n, dim), as `round_to_grid` returns them.
        ids: their image ids, (n,), which decide the order.
        init: `random` or `kmeans++`.
        clusters: number of centroids.
        seed: of the recipe.

    Returns:
        Centroids, (k, dim) float32; k is less than `clusters` if fewer points differ.
    """
    order = seeded_order(ids, seed, "start")
    distinct = order[_first_of_equal(vectors, order)]
    if init == "random" or len(distinct) <= clusters:
        return take_rows(vectors, distinct[:clusters], np.float32)
    drawn = _kmeans_plus_plus(take_rows(vectors, distinct), clusters, seed)
    return take_rows(vectors, distinct[drawn], np.float32)


def _first_of_equal(vectors: Vectors, order: RowNumbers) -> RowNumbers:
    """Return the places in an order of vectors (n, dim) at which one comes that did not come before.

    Vectors are equal if their digests of 128 bits are: sorting those takes little memory.
    """
    digests: list[bytes] = []
    for part in steps(vectors):
        # Adding zero makes a positive zero of a negative one, which is equal to it.
        rows = vectors[part].astype(np.float32) + np.float32(0)
        digests += [blake2b(row, digest_size=16).digest() for row in rows]
    halves = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)[order]
    by_digest = np.lexsort((halves[:, 1], halves[:, 0]))
    return np.sort(by_digest[run_starts(halves[by_digest])])


def _kmeans_plus_plus(points: Floats, clusters: int, seed: int) -> RowNumbers:
    """Draw rows with a probability proportional to the squared distance to those drawn before.

    Several points are drawn at once, by distances that are slightly outdated, and each is accepted with
    the probability (distance now) / (distance then). Distances only shrink, so the accepted points have
    the same distribution as points drawn one by one (rejection sampling), while the distances to all of
    them take one product. Products of points on the grid of `round_to_grid` have no rounding in
    float64, so the draw is the same on every machine.

    Args:
        points: (n, dim), no two of them equal; n > clusters.
        clusters: number of rows.
        seed: of the recipe.

    Returns:
        Row numbers, (clusters,).
    """
    square = np.einsum("nd,nd->n", points, points, dtype=np.float64)
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = np.zeros(1, np.int64)
    distance = _least_distance(points, square, drawn)
    while len(drawn) < clusters:
        batch = int(np.clip(len(drawn) // 4, *DRAWN_AT_ONCE))
        sums = np.cumsum(distance)
        proposed = np.searchsorted(sums, rng.random(batch) * sums[-1], side="right")
        proposed = np.minimum(proposed, len(points) - 1)
        doubles = points[proposed].astype(np.float64)
        accepted = proposed[_accept(doubles, distance[proposed], rng.random(batch))]
        accepted = accepted[: clusters - len(drawn)]
        drawn = np.concatenate([drawn, accepted])
        distance = np.minimum(distance, _least_distance(points, square, accepted))
        distance[accepted] = 0
    return drawn


def _least_distance(points: Floats, square: Doubles, rows: RowNumbers) -> Doubles:
    """Return the squared distance of each point to the nearest of some points, (n,).

    Args:
        points: (n, dim).
        square: squared length of each point, (n,).
        rows: numbers of the points to which distances are taken; infinite distances if there are none.
    """
    least = np.empty(len(points))
    others = points[rows].T.astype(np.float64)
    for start in range(0, len(points), POINTS_PER_STEP):
        part = slice(start, start + POINTS_PER_STEP)
        distance = square[rows] - 2 * (points[part].astype(np.float64) @ others)
        least[part] = np.maximum(square[part] + distance.min(axis=1, initial=np.inf), 0)
    return least


def _accept(points: Doubles, distance: Doubles, uniform: Doubles) -> list[int]:
    """Return which proposed points are accepted, one after another, with probability now / then.

    Args:
        points: the proposed points, (m, dim).
        distance: the squared distance by which each was drawn, (m,).
        uniform: a random number in [0, 1) for each, (m,).
    """
    between = points @ points.T
    square = np.diag(between)
    between = np.maximum(square[:, None] + square - 2 * between, 0)
    now, accepted = distance.copy(), []
    for row in range(len(points)):
        if uniform[row] * distance[row] < now[row]:
            accepted.append(row)
            now = np.minimum(now, between[row])
            now[row] = 0
    return accepted
