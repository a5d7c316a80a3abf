"""Every back end against brute force in float64, while centroids move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from curation.algorithms.kmeans.backends import BACKENDS
from curation.algorithms.kmeans.backends.bounds import neighbour_groups
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids, nearest_candidates
from curation.algorithms.kmeans.backends.torch import MAX_GROUP, MIN_GROUP
from curation.algorithms.kmeans.grid import round_to_grid
from curation.algorithms.kmeans.lloyd import Metric, make_centroids

from .data import planted


def brute_force(points: np.ndarray, centroids: Centroids) -> np.ndarray:
    scores = points.astype(np.float64) @ centroids.vectors.astype(np.float64).T - centroids.offset
    nearest: np.ndarray = scores.argmax(axis=1)
    return nearest


def moving(
    rng: np.random.Generator, points: np.ndarray, clusters: int, metric: Metric, steps: int
) -> Iterator[Centroids]:
    """Yield centroids that move far at first and then less and less, as those of k-means do."""
    vectors = points[rng.choice(len(points), clusters, replace=False)].astype(np.float64)
    for size in np.geomspace(0.3, 1e-5, steps):
        vectors = vectors + size * rng.normal(size=vectors.shape) / np.sqrt(vectors.shape[1])
        if metric == "spherical":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield make_centroids(vectors.astype(np.float32), metric)


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("clusters", [1, 3, 64, 8 * MIN_GROUP + 17, 500])
def test_equals_brute_force_while_centroids_move(
    name: str, metric: Metric, clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several blocks, so that the test fails if the bounds of one are used for another.
    monkeypatch.setattr(f"curation.algorithms.kmeans.backends.{name}.POINTS_PER_BLOCK", 700)
    rng = np.random.default_rng(clusters)
    points, _ = planted(rng, 2000, 24, 40)
    if metric == "euclidean":
        points, _ = round_to_grid(points.astype(np.float32) * 3 + 0.25)
    assigner = load_backend(name, "cpu")(points)
    for centroids in moving(rng, points, clusters, metric, 9):
        np.testing.assert_array_equal(assigner.assign(centroids), brute_force(points, centroids))


@pytest.mark.parametrize("name", BACKENDS)
def test_near_ties_are_decided_in_float64_and_ties_go_to_the_smaller_number(name: str) -> None:
    """Equal centroids, and centroids whose scores are within rounding of float32."""
    rng = np.random.default_rng(0)
    points, _ = planted(rng, 500, 16, 5)
    first = points[:20].astype(np.float32)
    near = first.copy()
    near[:, 0] += np.float32(2**-22)
    centroids = make_centroids(np.concatenate([first, near, first]), "spherical")
    got = load_backend(name, "cpu")(points).assign(centroids)
    np.testing.assert_array_equal(got, brute_force(points, centroids))
    assert (got < 40).all()


def test_bounds_save_work() -> None:
    """Once centroids hardly move, most groups are not scored; the test above checks the result."""
    rng = np.random.default_rng(1)
    points, _ = planted(rng, 4000, 32, 60, spread=0.3)
    assigner: Any = load_backend("torch", "cpu")(points)
    for centroids in moving(rng, points, 16 * MAX_GROUP, "spherical", 8):
        assigner.assign(centroids)
    assert assigner.scanned_shares[0] == 1.0
    assert assigner.scanned_shares[-1] < 0.3


def test_a_gpu_keeps_no_bounds() -> None:
    """Nothing is computed here, so this needs no GPU."""
    points = np.zeros((10, 8), np.float16)
    centroids = make_centroids(np.ones((16 * MAX_GROUP, 8), np.float32), "spherical")
    for device, pay in (("cpu", True), ("cuda", False)):
        assigner: Any = load_backend("torch", device)(points)
        assigner.calls = 5
        assert assigner._bounds_pay(centroids) == pay


@pytest.mark.parametrize("clusters", [1, 5, 64, 65, 127, 128, 129, 1000])
def test_groups_hold_every_centroid(clusters: int) -> None:
    rng = np.random.default_rng(2)
    order = neighbour_groups(rng.normal(size=(clusters, 8)).astype(np.float32), 64)
    assert len(order) == -(-clusters // 64) * 64
    assert sorted(set(order.tolist())) == list(range(clusters))


def test_nearest_candidates_by_hand() -> None:
    points = np.eye(3, dtype=np.float16)
    centroids = make_centroids(np.eye(3, dtype=np.float32), "spherical")
    rows, clusters = nearest_candidates(
        points, centroids, np.array([2, 0, 2, 0]), np.array([1, 2, 2, 1], dtype=np.int32)
    )
    assert rows.tolist() == [0, 2]
    assert clusters.tolist() == [1, 2]


@pytest.mark.parametrize("name", BACKENDS)
def test_several_devices_share_the_points(name: str) -> None:
    rng = np.random.default_rng(4)
    points, _ = planted(rng, 2001, 24, 40)
    one = load_backend(name, "cpu")(points)
    three: Any = load_backend(name, "cpu", "cpu", "cpu")(points)
    assert [len(part.vectors) for part in three.parts] == [667, 667, 667]
    for centroids in moving(rng, points, 300, "spherical", 5):
        np.testing.assert_array_equal(three.assign(centroids), one.assign(centroids))
    few = load_backend(name, "cpu", "cpu", "cpu")(points[:2])
    np.testing.assert_array_equal(few.assign(centroids), one.assign(centroids)[:2])


@pytest.mark.gpu
@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize("name", BACKENDS)
def test_cuda_equals_brute_force(name: str, metric: Metric) -> None:
    rng = np.random.default_rng(3)
    points, _ = planted(rng, 20_000, 64, 200)
    assigner = load_backend(name, "cuda")(points)
    for centroids in moving(rng, points, 500, metric, 6):
        np.testing.assert_array_equal(assigner.assign(centroids), brute_force(points, centroids))
