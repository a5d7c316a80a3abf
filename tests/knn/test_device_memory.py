"""Tiles that fit a device, and products in such tiles beside float64, on CPUs and GPUs alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from curation.algorithms.arrays import screen_choice
from curation.algorithms.arrays.device_memory import (
    CPU_TILE,
    LARGEST_TILE,
    SMALLEST_TILE,
    TileSizes,
    send_ahead,
    tile_bytes,
    tile_sizes,
    tile_within,
)
from curation.algorithms.arrays.device_products import device_similarity
from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.nearest import Centroids
from curation.algorithms.kmeans.backends.torch import TorchAssigner
from curation.algorithms.kmeans.lloyd import Metric, make_centroids
from curation.algorithms.knn.exact import build_base, search

from .test_exact import assert_same, brute_force, names, unit

ON = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("dim", [1, 128, 1024, 4096])
@pytest.mark.parametrize("gib", [0.02, 0.1, 1, 8, 80])
def test_a_tile_takes_at_most_the_limit_and_as_much_of_it_as_can_be(gib: float, dim: int) -> None:
    limit = gib * 2**30
    tile = tile_within(limit, dim)
    assert tile_bytes(tile, dim) <= limit or tile == SMALLEST_TILE
    assert tile == LARGEST_TILE or tile_bytes(tile, dim) > limit / 4


def test_tiles_of_a_cpu_do_not_depend_on_its_memory() -> None:
    assert tile_sizes(torch.device("cpu"), 1024) == CPU_TILE


@pytest.mark.parametrize("device", ON)
def test_arrays_arrive_whole_and_in_order(device: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(rows, 5)).astype(np.float16) for rows in (7, 7, 0, 7, 300, 2)]
    arrays.append(np.asfortranarray(arrays[0]))
    read = 0

    def reading() -> Iterator[Vectors]:
        nonlocal read
        for array in arrays:
            read += 1
            yield array

    for number, sent in enumerate(send_ahead(reading(), device)):
        # One is read ahead, so that it is on its way, and not more.
        assert read == min(number + 2, len(arrays))
        # What arrives later must not change what is used now.
        held = sent * 1
        np.testing.assert_array_equal(held.cpu().numpy(), arrays[number])
    assert list(send_ahead([], device)) == []


def nearest(points: Vectors, centroids: Centroids) -> np.ndarray:
    scores = points.astype(np.float64) @ centroids.vectors.astype(np.float64).T - centroids.offset
    assigned: np.ndarray = scores.argmax(axis=1)
    return assigned


@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize("clusters", [1, 96, 97, 500])
def test_the_nearest_centroid_in_tiles_equals_float64(
    clusters: int,
    metric: Metric,
    kind: torch.dtype,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tiles that do not divide the points or the centroids; centroids that tie; equal points."""
    where = "curation.algorithms.kmeans.backends"
    monkeypatch.setattr(f"{where}.screen.tile_sizes", lambda device, dim: TileSizes(64, 96))
    monkeypatch.setattr(f"{where}.torch.POINTS_PER_BLOCK", 150)
    rng = np.random.default_rng(clusters)
    points = unit(rng, 401, 24)
    points[200:240] = points[0]
    vectors = np.concatenate([points[:clusters], points[: clusters // 3]]).astype(np.float32)
    centroids = make_centroids(vectors, metric)
    assigner = TorchAssigner(points, device, kind)
    for _ in range(2):
        assigned = assigner.assign(centroids)
        np.testing.assert_array_equal(assigned, nearest(points, centroids))


@pytest.mark.parametrize("device", ON)
def test_similarities_on_a_device_have_the_bits_of_numpy(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.algorithms.arrays.device_products.VALUES_PER_STEP", 24 * 1000)
    rng = np.random.default_rng(1)
    queries, base = unit(rng, 300, 24), unit(rng, 700, 24)
    base[:300] = queries
    query, row = rng.integers(0, 300, 20_001), rng.integers(0, 700, 20_001)
    query[:300] = row[:300] = np.arange(300)
    similarity, unsure = device_similarity(queries, base, query, row, device)
    expected = exact_similarity(queries, base, query, row)
    np.testing.assert_array_equal(similarity[~unsure], expected[~unsure])
    # Sums of few products of float16 numbers often lie on a boundary; the others are spared.
    assert unsure.mean() < 0.1


def test_where_rounding_decides_a_device_is_unsure() -> None:
    """The exact products lie on boundaries between two float32 numbers."""
    queries = np.array([[1.0, 2.0**-24]], np.float32)
    base = np.array([[1.0, 1.0], [1.0, 3.0]], np.float32)
    none = np.zeros(2, np.int64)
    _, unsure = device_similarity(queries, base, none, np.array([0, 1]), "cpu")
    assert unsure.all()


@pytest.mark.gpu
@pytest.mark.parametrize("k", [1, 10, 300])
def test_a_search_on_a_gpu_equals_brute_force(k: int) -> None:
    rng = np.random.default_rng(2)
    base, queries = unit(rng, 5000, 64), unit(rng, 100, 64)
    base[1000:1200] = base[7]
    ids = names(rng, len(base))
    candidates = search(queries, build_base(base, ids), k, device="cuda")
    assert_same(candidates, brute_force(queries, base, ids, k))


@pytest.mark.skipif(
    not screen_choice.has_bfloat16_instructions(), reason="the CPU multiplies in float32 alone"
)
def test_the_faster_screen_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen_choice.measured_seconds.cache_clear()
    seconds = screen_choice.measured_seconds()
    assert set(seconds) == {torch.bfloat16, torch.float32}
    assert screen_choice.screen_type("cpu") == min(seconds, key=lambda kind: seconds[kind])
    monkeypatch.setattr(screen_choice, "scan", None)  # another measurement would fail
    assert screen_choice.is_faster() == (seconds[torch.bfloat16] < seconds[torch.float32])


@pytest.mark.parametrize("faster", [torch.bfloat16, torch.float32])
def test_the_faster_screen_is_taken(faster: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.bfloat16: 1.0, torch.float32: 1.0} | {faster: 0.5}
    monkeypatch.setattr(screen_choice, "measured_seconds", lambda: seconds)
    monkeypatch.setattr(screen_choice, "has_bfloat16_instructions", lambda: True)
    assert screen_choice.screen_type("cpu") == faster
    monkeypatch.setattr(screen_choice, "has_bfloat16_instructions", lambda: False)
    assert screen_choice.screen_type("cpu") == torch.float32
    assert screen_choice.screen_type("cuda") == torch.bfloat16
