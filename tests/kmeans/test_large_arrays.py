"""Training whose arrays are in files gives the bits of arrays in memory, and holds little there."""

from __future__ import annotations

import resource
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays import large_arrays
from curation.algorithms.arrays import seeded_order as seeded_order_module
from curation.algorithms.arrays.large_arrays import take_rows, zeros
from curation.algorithms.arrays.seeded_order import seeded_order
from curation.algorithms.kmeans import grid, hierarchy
from curation.algorithms.kmeans import points as points_module
from curation.algorithms.kmeans.backends import nearest
from curation.algorithms.kmeans.hierarchy import Resampling, TrainingOptions, build_levels
from curation.algorithms.kmeans.initialisation import initial_centroids
from curation.algorithms.kmeans.lloyd import (
    SPLIT,
    Metric,
    TrainedLevel,
    make_centroids,
    update_centroids,
)
from curation.algorithms.kmeans.points import ClusterSums
from curation.errors import StoreError
from curation.inspect.cost.clusters import TRAINED_POINT

from .data import names, planted

DIM = 16


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_arrays, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(large_arrays, "BYTES_PER_STEP", 20_000)


def points(count: int, dim: int) -> np.ndarray:
    return 3 * planted(np.random.default_rng(0), count, dim, 40, dtype=np.float32)[0]


def levels(vectors: np.ndarray, metric: Metric, init: Any, sizes: list[int]) -> list[Any]:
    finest = TrainedLevel(make_centroids(vectors, metric), np.ones(len(vectors), np.int64), ())
    training = TrainingOptions(3, metric, init, 1, "torch")
    return build_levels(finest, sizes, [Resampling(2, 4)] * len(sizes), training)


def bits(trained: list[Any]) -> list[Any]:
    return [
        (
            level.trained.centroids.vectors.tobytes(),
            level.trained.counts.tolist(),
            level.trained.objective,
            None if level.parent is None else level.parent.tolist(),
        )
        for level in trained
    ]


@pytest.mark.parametrize("init", ["random", "kmeans++"])
@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_levels_in_files_have_the_same_bits(
    metric: Metric, init: str, request: pytest.FixtureRequest
) -> None:
    vectors = points(600, DIM)
    expected = bits(levels(vectors, metric, init, [40, 5]))
    request.getfixturevalue("in_files")
    assert bits(levels(vectors, metric, init, [40, 5])) == expected


def test_points_in_files_take_no_memory(in_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nearest, points_module, grid):
        monkeypatch.setattr(module, "POINTS_PER_BLOCK", 128)
    for other in (seeded_order_module, hierarchy):
        monkeypatch.setattr(other, "IDS_AT_ONCE", 128)

    def traced(count: int) -> int:
        vectors = points(count, 256)
        tracemalloc.start()
        try:
            levels(vectors, "euclidean", "random", [8])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    traced(500)
    growth = (traced(6_000) - traced(2_000)) / 4_000
    # The numbers of a point in float32 take 1,024 bytes; its id, order and cluster are in memory.
    assert growth < TRAINED_POINT


def updated_at_once(sums: ClusterSums, before: np.ndarray, metric: Metric) -> np.ndarray:
    """All centroids at once in float64, with half of the largest cluster for each empty one."""
    lengths = np.sqrt(np.einsum("kd,kd->k", sums.sums, sums.sums))
    scale = lengths if metric == "spherical" else sums.counts.astype(np.float64)
    vectors = sums.sums / np.where(scale == 0, 1, scale)[:, None]
    vectors[scale == 0] = before[scale == 0]
    sizes, sign = sums.counts.copy(), np.where(np.arange(vectors.shape[1]) % 2 == 0, SPLIT, -SPLIT)
    for empty in np.flatnonzero(sums.counts == 0):
        largest = int(np.argmax(sizes))
        vectors[empty] = vectors[largest] * (1 + sign)
        vectors[largest] *= 1 - sign
        sizes[empty] = sizes[largest] // 2
        sizes[largest] -= sizes[empty]
    if metric == "spherical":
        vectors /= np.sqrt(np.einsum("kd,kd->k", vectors, vectors))[:, None]
    return vectors.astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    clusters=st.integers(1, 30),
    metric=st.sampled_from(["spherical", "euclidean"]),
)
def test_centroids_updated_in_parts_are_those_updated_at_once(
    seed: int, clusters: int, metric: Metric
) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, clusters) * rng.integers(0, 9, clusters)
    counts[rng.integers(clusters)] += 5
    vectors = planted(rng, clusters, DIM, 5, dtype=np.float64)[0]
    sums = ClusterSums(vectors * counts[:, None], counts, 0.0)
    before = make_centroids(planted(rng, clusters, DIM, 5, dtype=np.float32)[0], metric)
    expected = updated_at_once(sums, before.vectors, metric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_arrays, "BYTES_PER_STEP", 300)
        patch.setattr(large_arrays, "IN_MEMORY_BYTES", 0)
        got = update_centroids(sums, before, metric)
    assert got.tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), clusters=st.integers(1, 70))
def test_initial_centroids_are_different_points_in_a_seeded_order(
    seed: int, count: int, clusters: int
) -> None:
    """Few values, so that many points are equal; a negative zero is equal to a positive one."""
    rng = np.random.default_rng(seed)
    vectors = rng.choice(np.array([-0.5, -0.0, 0.0, 0.5], np.float32), (count, 2))
    ids = names(rng, count)
    ordered = vectors[seeded_order(ids, 3, "start")]
    _, first = np.unique(ordered, axis=0, return_index=True)
    expected = ordered[np.sort(first)][:clusters]
    got = initial_centroids(vectors, ids, "random", clusters, 3)
    assert got.tobytes() == expected.tobytes()


def test_rows_are_taken_as_numpy_takes_them(in_files: None) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 7)).astype(np.float16)
    rows = rng.integers(0, 500, 900)
    np.testing.assert_array_equal(take_rows(vectors, rows, np.float32), vectors[rows])
    assert take_rows(vectors, np.arange(500)) is vectors
    assert take_rows(vectors, np.arange(499)).shape == (499, 7)
    assert take_rows(vectors, np.empty(0, np.int64)).shape == (0, 7)
    assert not zeros((40, 30), np.float64).any()


def test_a_full_disk_is_an_error_that_names_the_folder(in_files: None) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    try:
        with pytest.raises(StoreError, match="TMPDIR"):
            zeros((2**16, 2), np.float64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_folder_that_is_not_there_is_an_error_as_well(
    in_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "removed"))
    with pytest.raises(StoreError, match=r"in .*removed \(No such file.*TMPDIR"):
        zeros((2, 2), np.float64)
