"""k-means against a plain float64 Lloyd, and its invariants."""

from __future__ import annotations

import numpy as np
import pytest

from curation.algorithms.kmeans.backends import BACKENDS
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.initialisation import initial_centroids
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd, make_centroids, update_centroids
from curation.algorithms.kmeans.points import (
    GRID_STEPS,
    ArrayPoints,
    ClusterSums,
    add_to_sums,
    round_to_grid,
)

from .data import names, planted


def plain(points, vectors, iterations, metric):
    """Return centroids and objectives of Lloyd's algorithm as a textbook writes it."""
    doubles = points.astype(np.float64)
    vectors = vectors.astype(np.float64)
    objective = []
    for _ in range(iterations + 1):
        distance = ((doubles[:, None] - vectors[None]) ** 2).sum(axis=2)
        score = doubles @ vectors.T if metric == "spherical" else -distance
        own = score.argmax(axis=1)
        objective.append(abs(score.max(axis=1).mean()))
        last = vectors
        sums = np.stack([doubles[own == c].sum(axis=0) for c in range(len(vectors))])
        if metric == "spherical":
            vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        else:
            vectors = sums / np.bincount(own, minlength=len(vectors))[:, None]
    return last, np.bincount(own, minlength=len(vectors)), objective


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize("name", BACKENDS)
def test_equals_a_textbook(name, metric):
    rng = np.random.default_rng(0)
    points, _ = planted(rng, 600, 12, 8)
    start = points[:8].astype(np.float32)
    trained = lloyd(ArrayPoints(points, load_backend(name, "cpu")), TrainingState(start), 6, metric)
    vectors, counts, objective = plain(points, start, 6, metric)
    np.testing.assert_allclose(trained.centroids.vectors, vectors, atol=1e-5)
    np.testing.assert_array_equal(trained.counts, counts)
    np.testing.assert_allclose(trained.objective, objective[: len(trained.objective)], atol=1e-6)


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_back_ends_give_the_same_bits(metric):
    rng = np.random.default_rng(1)
    points, _ = planted(rng, 3000, 24, 30)
    start = initial_centroids(points.astype(np.float32), names(rng, 3000), "random", 150, 0)
    runs = [
        lloyd(ArrayPoints(points, load_backend(name, "cpu")), TrainingState(start), 8, metric)
        for name in BACKENDS
    ]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.centroids.vectors, runs[0].centroids.vectors)
        assert other.objective == runs[0].objective


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_the_objective_never_gets_worse(metric):
    rng = np.random.default_rng(2)
    points, _ = planted(rng, 2000, 16, 20)
    start = points[:50].astype(np.float32)
    trained = lloyd(
        ArrayPoints(points, load_backend("torch", "cpu")), TrainingState(start), 15, metric
    )
    steps = np.diff(trained.objective) * (1 if metric == "spherical" else -1)
    # Centroids are rounded to float32.
    assert (steps > -1e-7).all()
    assert steps.sum() > 0.01


def test_a_stopped_training_goes_on_with_the_same_bits():
    rng = np.random.default_rng(3)
    points, _ = planted(rng, 2000, 16, 20)
    kept = []
    start = TrainingState(points[:40].astype(np.float32))
    load = load_backend("torch", "cpu")
    whole = lloyd(ArrayPoints(points, load), start, 10, save_state=kept.append)
    for state in kept[:-1:3]:
        again = lloyd(ArrayPoints(points, load), state, 10)
        np.testing.assert_array_equal(again.centroids.vectors, whole.centroids.vectors)
        np.testing.assert_array_equal(again.counts, whole.counts)
        assert again.objective == whole.objective


def test_order_and_company_of_points_change_nothing():
    rng = np.random.default_rng(4)
    points, _ = planted(rng, 3000, 16, 20)
    start = TrainingState(points[:40].astype(np.float32))
    load = load_backend("torch", "cpu")
    whole = lloyd(ArrayPoints(points, load), start, 6)
    mixed = lloyd(ArrayPoints(points[rng.permutation(3000)], load), start, 6)
    np.testing.assert_array_equal(whole.centroids.vectors, mixed.centroids.vectors)


def test_empty_clusters_split_the_largest():
    """Three of four first centroids are one and the same point: no cluster stays empty."""
    rng = np.random.default_rng(5)
    points, _ = planted(rng, 400, 8, 4)
    start = points[[0, 0, 0, 0]].astype(np.float32)
    load = load_backend("torch", "cpu")
    trained = lloyd(ArrayPoints(points, load), TrainingState(start), 10)
    assert (trained.counts > 0).all()
    again = lloyd(ArrayPoints(points, load), TrainingState(start), 10)
    np.testing.assert_array_equal(trained.centroids.vectors, again.centroids.vectors)


def test_points_that_cancel_out_leave_their_centroid_where_it_was():
    tally = ClusterSums(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([2, 2]), 4.0)
    before = make_centroids(np.array([[0, 1], [0, 1]], dtype=np.float32), "spherical")
    np.testing.assert_array_equal(update_centroids(tally, before, "spherical"), [[0, 1], [1, 0]])


def test_sums_of_grid_points_do_not_round():
    rng = np.random.default_rng(6)
    points, _ = planted(rng, 5000, 8, 3)
    own = rng.integers(0, 3, 5000).astype(np.int32)
    sums = np.zeros((3, 8))
    add_to_sums(sums, points, own)
    steps = (points.astype(np.float64) * GRID_STEPS).astype(np.int64)
    exact = np.stack([steps[own == c].sum(axis=0) for c in range(3)])
    np.testing.assert_array_equal(sums * GRID_STEPS, exact)
    add_to_sums(sums, points, own, sign=-1)
    assert not sums.any()


def test_float16_of_unit_length_is_on_the_grid_and_others_get_there():
    rng = np.random.default_rng(7)
    points, _ = planted(rng, 1000, 32, 5)
    same, scale = round_to_grid(points)
    assert same is points
    assert scale == 1.0
    steps = points.astype(np.float64) * GRID_STEPS
    assert (steps == np.rint(steps)).all()
    moved, scale = round_to_grid(rng.normal(size=(100, 8)).astype(np.float32) * 50)
    steps = moved.astype(np.float64) * GRID_STEPS
    assert (steps == np.rint(steps)).all()
    assert scale == 2.0 ** np.round(np.log2(scale))
    assert np.linalg.norm(moved, axis=1).max() <= 1


@pytest.mark.parametrize("start", ["random", "kmeans++"])
def test_first_centroids_depend_on_images_alone(start):
    rng = np.random.default_rng(8)
    points, _ = planted(rng, 300, 8, 5)
    points[100:150] = points[0]
    ids = names(rng, 300)
    vectors = points.astype(np.float32)
    first = initial_centroids(vectors, ids, start, 40, 7)
    mixed = rng.permutation(300)
    np.testing.assert_array_equal(
        first, initial_centroids(vectors[mixed], ids[mixed], start, 40, 7)
    )
    assert len(np.unique(first, axis=0)) == 40
    assert not np.array_equal(first, initial_centroids(vectors, ids, start, 40, 8))


def test_more_centroids_than_points_that_differ():
    points = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    ids = names(np.random.default_rng(9), 20)
    assert len(initial_centroids(points, ids, "kmeans++", 10, 0)) == 4


def test_plus_plus_starts_better_than_random():
    """Well separated clusters of very different size: k-means++ finds nearly all of them at once."""
    rng = np.random.default_rng(10)
    middle = 20 * rng.normal(size=(10, 6))
    own = np.repeat(np.arange(10), [2000, *[25] * 9])
    points, _ = round_to_grid((middle[own] + rng.normal(size=(len(own), 6))).astype(np.float32))
    ids = names(rng, len(own))

    def found(start):
        first = initial_centroids(points, ids, start, 10, 3)
        distance = ((points[:, None] - first[None]) ** 2).sum(axis=2)
        return len(set(own[distance.argmin(axis=0)].tolist()))

    assert found("kmeans++") >= 8
    assert found("random") <= 5


def test_plus_plus_is_distributed_as_if_drawn_one_by_one():
    """The mean squared distance left over, beside that of the plain algorithm, over many seeds."""
    rng = np.random.default_rng(11)
    points, _ = planted(rng, 900, 12, 30, spread=0.1)
    points, ids = points.astype(np.float32), names(rng, 900)

    def left(centroids):
        return ((points[:, None] - centroids[None]) ** 2).sum(axis=2).min(axis=1).sum()

    def one_by_one(seed):
        rng = np.random.default_rng(seed)
        rows = [int(rng.integers(len(points)))]
        while len(rows) < 30:
            distance = ((points[:, None] - points[rows][None]) ** 2).sum(axis=2).min(axis=1)
            rows.append(int(rng.choice(len(points), p=distance / distance.sum())))
        return points[rows]

    ours = [left(initial_centroids(points, ids, "kmeans++", 30, seed)) for seed in range(60)]
    plain = [left(one_by_one(seed)) for seed in range(60)]
    error = np.hypot(np.std(ours), np.std(plain)) / np.sqrt(60)
    assert abs(np.mean(ours) - np.mean(plain)) < 4 * error
