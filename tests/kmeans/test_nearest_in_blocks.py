"""Centroids that pass by in blocks give the bits of all centroids at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.kmeans import nearest_in_blocks as module
from curation.algorithms.kmeans.backends import BACKENDS
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids, exact_scores
from curation.algorithms.kmeans.lloyd import Metric, directions, make_centroids
from curation.algorithms.kmeans.nearest_in_blocks import nearest_in_blocks

from .data import planted

DIM = 12


def cut(vectors: np.ndarray, metric: Metric, size: int) -> Iterator[Centroids]:
    for start in range(0, len(vectors), size):
        yield make_centroids(vectors[start : start + size], metric)


def near_and_equal(seed: int, points: np.ndarray, clusters: int) -> np.ndarray:
    """Centroids of which some are equal, and some differ by less than float32 products show."""
    rng = np.random.default_rng(seed)
    vectors = points[rng.integers(0, len(points), clusters)].astype(np.float32)
    vectors[rng.random(clusters) < 0.3] += np.float32(2**-23)
    order = rng.permutation(clusters)
    result: np.ndarray = vectors[order]
    return result


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    clusters=st.integers(1, 90),
    size=st.integers(1, 100),
    metric=st.sampled_from(["spherical", "euclidean"]),
    name=st.sampled_from(list(BACKENDS)),
)
def test_any_blocks_give_the_bits_of_one(
    seed: int, clusters: int, size: int, metric: Metric, name: str
) -> None:
    points, _ = planted(np.random.default_rng(seed), 120, DIM, 9, spread=0.3)
    vectors = near_and_equal(seed, points, clusters)
    backend = load_backend(name, "cpu")
    whole = make_centroids(vectors, metric)
    scores = np.stack(
        [exact_scores(points, whole, np.full(len(points), k)) for k in range(clusters)], axis=1
    )
    expected = scores.argmax(axis=1)
    nearest, similarity = nearest_in_blocks(points, cut(vectors, metric, size), backend, "cpu")
    np.testing.assert_array_equal(nearest, expected)
    rows = np.arange(len(points))
    of_whole = exact_similarity(points, directions(whole), rows, expected)
    assert similarity.tobytes() == of_whole.tobytes()


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_few_scores_are_computed_in_float64(
    metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32 blocks in random order, a point meets a new best one in about four."""
    rng = np.random.default_rng(0)
    points, _ = planted(rng, 500, DIM, 40)
    vectors = planted(rng, 320, DIM, 320, dtype=np.float32)[0]
    counted: list[int] = []

    def counting(points: np.ndarray, block: Centroids, clusters: np.ndarray, *rows: Any) -> Any:
        counted.append(len(clusters))
        return exact_scores(points, block, clusters, *rows)

    monkeypatch.setattr(module, "exact_scores", counting)
    nearest_in_blocks(points, cut(vectors, metric, 10), load_backend("torch", "cpu"), "cpu")
    assert len(counted) == 32
    assert len(points) < sum(counted) < 8 * len(points)


def test_two_blocks_are_in_memory_at_once() -> None:
    rng = np.random.default_rng(0)
    points, _ = planted(rng, 50, DIM, 9)
    made: list[weakref.ref[Centroids]] = []
    alive: list[int] = []

    def blocks() -> Iterator[Centroids]:
        for block in cut(planted(rng, 60, DIM, 60, dtype=np.float32)[0], "spherical", 10):
            made.append(weakref.ref(block))
            alive.append(sum(reference() is not None for reference in made))
            yield block

    nearest_in_blocks(points, blocks(), load_backend("torch", "cpu"), "cpu")
    assert alive == [1, 2, 2, 2, 2, 2]
