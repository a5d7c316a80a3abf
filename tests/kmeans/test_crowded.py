"""Nearest centroids among many that rounding cannot tell apart: exact, and in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends import bounds, screen
from curation.algorithms.kmeans.backends import faiss as faiss_backend
from curation.algorithms.kmeans.backends import torch as torch_backend
from curation.algorithms.kmeans.backends.nearest import (
    Centroids,
    ClusterIds,
    exact_scores,
    nearest_of_all,
)
from curation.algorithms.kmeans.initialisation import initial_centroids
from curation.algorithms.kmeans.lloyd import Metric, TrainingState, lloyd, make_centroids
from curation.algorithms.kmeans.points import ArrayPoints

DIM = 16


def unit(vectors: npt.NDArray[np.float64]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def centroids_of(kind: str, count: int, metric: Metric) -> Centroids:
    rng = np.random.default_rng(count)
    centre = rng.normal(size=(1, DIM))
    spread = {"equal": 0.0, "bits of float32": 1e-7, "bits of float16": 3e-4, "apart": 1.0}[kind]
    vectors = unit(centre + spread * rng.normal(size=(count, DIM)))
    return make_centroids(vectors, metric)


def points_of(centroids: Centroids, count: int) -> Vectors:
    rng = np.random.default_rng(count)
    far = unit(rng.normal(size=(count - count // 2, DIM)))
    near = np.resize(centroids.vectors, (count // 2, DIM))
    return np.concatenate([near, far]).astype(np.float16)


def truth(points: Vectors, centroids: Centroids) -> ClusterIds:
    """The centroid of the largest float64 score, pair by pair, ties to the smaller number."""
    numbers = np.arange(len(centroids), dtype=np.int32)
    scores = [
        exact_scores(points, centroids, numbers, np.full(len(numbers), row))
        for row in range(len(points))
    ]
    return np.array([np.argmax(score) for score in scores], np.int32)


KINDS = ("equal", "bits of float32", "bits of float16", "apart")


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["torch", "torch bfloat16", "faiss", "all"])
def test_every_way_is_exact(name: str, kind: str, metric: Metric) -> None:
    centroids = centroids_of(kind, 3000, metric)
    points = points_of(centroids, 60)
    if name == "all":
        assigned = nearest_of_all(points, centroids)
    elif name == "faiss":
        assigned = faiss_backend.load(points).assign(centroids)
    else:
        screen_type = torch.bfloat16 if "bfloat16" in name else torch.float32
        assigned = torch_backend.TorchAssigner(points, "cpu", screen_type).assign(centroids)
    np.testing.assert_array_equal(assigned, truth(points, centroids))


def test_a_full_scan_lists_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def counted(self: screen.PointBlock, step: object, rows: torch.Tensor, *rest: object) -> None:
        listed.append(len(rows))
        original(self, step, rows, *rest)  # type: ignore[arg-type]

    original = screen.PointBlock.set_nearest
    monkeypatch.setattr(screen.PointBlock, "set_nearest", counted)
    centroids = centroids_of("bits of float32", 20_000, "spherical")
    points = points_of(centroids, 200)
    torch_backend.TorchAssigner(points, "cpu", torch.bfloat16).assign(centroids)
    assert max(listed) <= 200 * 2000


@pytest.mark.parametrize("most", [0, 2**22])
def test_later_passes_are_exact(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bounds from earlier passes, and where these give up."""
    monkeypatch.setattr(bounds, "MAX_PAIRS", most)
    monkeypatch.setattr(bounds, "MAX_SHARE", 1.0)
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(40, DIM)))
    vectors = unit(np.repeat(centres, 20, axis=0) + 1e-4 * rng.normal(size=(800, DIM)))
    centroids = make_centroids(vectors, "spherical")
    assigner = torch_backend.TorchAssigner(points_of(centroids, 300), "cpu", torch.bfloat16)
    for step in range(4):
        moved = unit(vectors + step * 1e-3 * rng.normal(size=vectors.shape))
        centroids = make_centroids(moved, "spherical")
        assigned = assigner.assign(centroids)
        np.testing.assert_array_equal(assigned, truth(assigner.vectors, centroids))


@settings(max_examples=15, deadline=None)
@given(distinct=st.integers(1, 5), copies=st.integers(1, 60), clusters=st.integers(1, 12))
def test_a_pool_of_copies_gives_a_cluster_for_each_picture(
    distinct: int, copies: int, clusters: int
) -> None:
    rng = np.random.default_rng(distinct)
    pictures = unit(rng.normal(size=(distinct, DIM))).astype(np.float16)
    points = np.tile(pictures, (copies, 1))
    ids = np.array([f"{n:032x}" for n in range(len(points))], "S32")
    start = initial_centroids(points.astype(np.float32), ids, "kmeans++", clusters, 0)
    assert len(start) == min(distinct, clusters)
    trained = lloyd(ArrayPoints(points, torch_backend.load), TrainingState(start), 5)
    assert trained.counts.sum() == len(points)
    if clusters >= distinct:
        assert (trained.counts == copies).all()
