"""k-means against a plain Lloyd's algorithm in float64, and its invariants."""

from __future__ import annotations

import numpy as np
import pytest

from curation.algorithms.kmeans.backends import BACKENDS
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.grid import GRID_STEPS, round_to_grid
from curation.algorithms.kmeans.initialisation import Init, initial_centroids
from curation.algorithms.kmeans.lloyd import (
    Metric,
    TrainingState,
    lloyd,
    make_centroids,
    update_centroids,
)
from curation.algorithms.kmeans.points import ArrayPoints, ClusterSums
from curation.algorithms.kmeans.sums import adding_to

from .data import names, planted


def plain_lloyd(
    points: np.ndarray, vectors: np.ndarray, iterations: int, metric: Metric
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return centroids, counts and objectives of Lloyd's algorithm as a textbook writes it."""
    doubles = points.astype(np.float64)
    vectors = vectors.astype(np.float64)
    objective = []
    for _ in range(iterations + 1):
        distance = ((doubles[:, None] - vectors[None]) ** 2).sum(axis=2)
        score = doubles @ vectors.T if metric == "spherical" else -distance
        label = score.argmax(axis=1)
        objective.append(abs(score.max(axis=1).mean()))
        last = vectors
        sums = np.stack([doubles[label == c].sum(axis=0) for c in range(len(vectors))])
        if metric == "spherical":
            vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        else:
            vectors = sums / np.bincount(label, minlength=len(vectors))[:, None]
    return last, np.bincount(label, minlength=len(vectors)), objective


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize("name", BACKENDS)
def test_equals_a_textbook(name: str, metric: Metric) -> None:
    rng = np.random.default_rng(0)
    points, _ = planted(rng, 600, 12, 8)
    first = points[:8].astype(np.float32)
    trained = lloyd(ArrayPoints(points, load_backend(name, "cpu")), TrainingState(first), 6, metric)
    vectors, counts, objective = plain_lloyd(points, first, 6, metric)
    np.testing.assert_allclose(trained.centroids.vectors, vectors, atol=1e-5)
    np.testing.assert_array_equal(trained.counts, counts)
    np.testing.assert_allclose(trained.objective, objective[: len(trained.objective)], atol=1e-6)


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_back_ends_give_the_same_bits(metric: Metric) -> None:
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
def test_the_objective_never_gets_worse(metric: Metric) -> None:
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


def test_a_stopped_training_continues_with_the_same_bits() -> None:
    rng = np.random.default_rng(3)
    points, _ = planted(rng, 2000, 16, 20)
    states: list[TrainingState] = []
    initial = TrainingState(points[:40].astype(np.float32))
    load = load_backend("torch", "cpu")
    uninterrupted = lloyd(ArrayPoints(points, load), initial, 10, save_state=states.append)
    for state in states[:-1:3]:
        continued = lloyd(ArrayPoints(points, load), state, 10)
        np.testing.assert_array_equal(continued.centroids.vectors, uninterrupted.centroids.vectors)
        np.testing.assert_array_equal(continued.counts, uninterrupted.counts)
        assert continued.objective == uninterrupted.objective


def test_the_order_of_points_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    points, _ = planted(rng, 3000, 16, 20)
    initial = TrainingState(points[:40].astype(np.float32))
    load = load_backend("torch", "cpu")
    in_order = lloyd(ArrayPoints(points, load), initial, 6)
    shuffled = lloyd(ArrayPoints(points[rng.permutation(3000)], load), initial, 6)
    np.testing.assert_array_equal(in_order.centroids.vectors, shuffled.centroids.vectors)


def test_empty_clusters_split_the_largest() -> None:
    """The four initial centroids are the same point, and still no cluster stays empty."""
    rng = np.random.default_rng(5)
    points, _ = planted(rng, 400, 8, 4)
    start = points[[0, 0, 0, 0]].astype(np.float32)
    load = load_backend("torch", "cpu")
    trained = lloyd(ArrayPoints(points, load), TrainingState(start), 10)
    assert (trained.counts > 0).all()
    repeated = lloyd(ArrayPoints(points, load), TrainingState(start), 10)
    np.testing.assert_array_equal(trained.centroids.vectors, repeated.centroids.vectors)


def test_a_centroid_stays_where_the_points_of_its_cluster_cancel_out() -> None:
    sums = ClusterSums(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([2, 2]), 4.0)
    before = make_centroids(np.array([[0, 1], [0, 1]], dtype=np.float32), "spherical")
    np.testing.assert_array_equal(update_centroids(sums, before, "spherical"), [[0, 1], [1, 0]])


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [True, False])
def test_sums_on_a_gpu_have_the_same_bits(resident: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.algorithms.kmeans.sums.fits", lambda size, device: resident)
    rng = np.random.default_rng(8)
    points, _ = planted(rng, 200_000, 64, 30)
    cluster_ids = rng.integers(0, 500, len(points)).astype(np.int32)
    here, there = np.zeros((500, 64)), np.zeros((500, 64))
    for sums, device in ((here, "cpu"), (there, "cuda")):
        with adding_to(sums, device) as adder:
            adder.add(points, cluster_ids)
            adder.add(points[:100_001], cluster_ids[:100_001], sign=-1)
    np.testing.assert_array_equal(here, there)


def test_sums_of_grid_points_do_not_round() -> None:
    rng = np.random.default_rng(6)
    points, _ = planted(rng, 5000, 8, 3)
    cluster_ids = rng.integers(0, 3, 5000).astype(np.int32)
    sums = np.zeros((3, 8))
    with adding_to(sums, "cpu") as adder:
        adder.add(points, cluster_ids)
    steps = (points.astype(np.float64) * GRID_STEPS).astype(np.int64)
    exact = np.stack([steps[cluster_ids == c].sum(axis=0) for c in range(3)])
    np.testing.assert_array_equal(sums * GRID_STEPS, exact)
    with adding_to(sums, "cpu") as adder:
        adder.add(points, cluster_ids, sign=-1)
    assert not sums.any()


def test_unit_vectors_in_float16_are_on_the_grid_and_others_are_rounded_to_it() -> None:
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


@pytest.mark.parametrize("init", ["random", "kmeans++"])
def test_initial_centroids_depend_on_image_ids_alone(init: Init) -> None:
    rng = np.random.default_rng(8)
    points, _ = planted(rng, 300, 8, 5)
    points[100:150] = points[0]
    ids = names(rng, 300)
    vectors = points.astype(np.float32)
    first = initial_centroids(vectors, ids, init, 40, 7)
    order = rng.permutation(300)
    np.testing.assert_array_equal(first, initial_centroids(vectors[order], ids[order], init, 40, 7))
    assert len(np.unique(first, axis=0)) == 40
    assert not np.array_equal(first, initial_centroids(vectors, ids, init, 40, 8))


def test_more_centroids_than_different_points() -> None:
    points = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    ids = names(np.random.default_rng(9), 20)
    assert len(initial_centroids(points, ids, "kmeans++", 10, 0)) == 4


def test_kmeans_plus_plus_finds_more_clusters_than_random() -> None:
    """Of well separated clusters of very different size, k-means++ starts in nearly all."""
    rng = np.random.default_rng(10)
    centres = 20 * rng.normal(size=(10, 6))
    centre = np.repeat(np.arange(10), [2000, *[25] * 9])
    noise = rng.normal(size=(len(centre), 6))
    points, _ = round_to_grid((centres[centre] + noise).astype(np.float32))
    ids = names(rng, len(centre))

    def clusters_found(init: Init) -> int:
        first = initial_centroids(points, ids, init, 10, 3)
        distance = ((points[:, None] - first[None]) ** 2).sum(axis=2)
        return len(set(centre[distance.argmin(axis=0)].tolist()))

    assert clusters_found("kmeans++") >= 8
    assert clusters_found("random") <= 5


def test_kmeans_plus_plus_has_the_distribution_of_points_drawn_one_by_one() -> None:
    """The sum of squared distances is that of the plain algorithm, on average over many seeds."""
    rng = np.random.default_rng(11)
    points, _ = planted(rng, 900, 12, 30, spread=0.1)
    points, ids = points.astype(np.float32), names(rng, 900)

    def inertia(centroids: np.ndarray) -> float:
        return float(((points[:, None] - centroids[None]) ** 2).sum(axis=2).min(axis=1).sum())

    def one_by_one(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        rows = [int(rng.integers(len(points)))]
        while len(rows) < 30:
            distance = ((points[:, None] - points[rows][None]) ** 2).sum(axis=2).min(axis=1)
            rows.append(int(rng.choice(len(points), p=distance / distance.sum())))
        return points[rows]

    ours = [inertia(initial_centroids(points, ids, "kmeans++", 30, seed)) for seed in range(60)]
    plain = [inertia(one_by_one(seed)) for seed in range(60)]
    error = np.hypot(np.std(ours), np.std(plain)) / np.sqrt(60)
    assert abs(np.mean(ours) - np.mean(plain)) < 4 * error
