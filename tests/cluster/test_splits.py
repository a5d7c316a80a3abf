"""The finest level in splits: each is k-means of its part, however the pool is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.initialisation import sampled_centroids
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd
from curation.algorithms.kmeans.points import ArrayPoints
from curation.errors import RecipeError
from curation.stages.cluster.splits import split_clusters
from curation.store.store import Store

from ..kmeans.data import names, planted, planted_pool
from .test_stage import DIM, clustered, fill, recipe, rows_of

OPTIONS: dict[str, Any] = {"levels": [20, 4], "splits": 3, "iterations": 5}


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, np.ndarray]:
    return planted_pool(3, 1500, DIM)


def test_each_split_is_k_means_of_its_part(
    pool: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    table = clustered(fill(Store(tmp_path), *pool, parts=2), **OPTIONS)
    eligible = np.arange(len(pool[0])) % 7 != 0
    ids, vectors = pool[0][eligible], pool[1][eligible]
    order = np.argsort(ids)
    ids, vectors = ids[order], vectors[order]
    split = seeded_keys(ids, 0, "split") % np.uint64(3)
    expected, counts, sums = [], [], 0.0
    for number, clusters in enumerate([6, 7, 7]):
        part, part_ids = vectors[split == number], ids[split == number]
        first = sampled_centroids(part_ids, part, "random", clusters, 0)
        trained = lloyd(ArrayPoints(part, load_backend("torch", "cpu")), TrainingState(first), 5)
        expected.append(trained.centroids.vectors[trained.counts > 0])
        counts += trained.counts[trained.counts > 0].tolist()
        sums += trained.objective[-1] * len(part)
    finest = table.fragments["level-0"].read()
    np.testing.assert_array_equal(
        vector_matrix(finest.column("vector"), "<f4"), np.concatenate(expected)
    )
    assert finest.column("training_count").to_pylist() == counts
    assert sum(counts) == len(ids)
    assert table.manifest.stats["objective"][0][-1] == pytest.approx(sums / len(ids))
    # The level above joins clusters of all splits.
    assert set(finest.column("parent_id").to_pylist()) == {0, 1, 2, 3}


def test_fragments_and_back_ends_make_no_difference(
    pool: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    cases: list[tuple[int, dict[str, Any]]] = [(1, {}), (5, {"memory_gib": 0, "backend": "faiss"})]
    tables = [
        rows_of(clustered(fill(Store(tmp_path / f"{parts}"), *pool, parts), **OPTIONS, **other))
        for parts, other in cases
    ]
    assert tables[0] == tables[1]


def test_more_splits_than_there_are_points(tmp_path: Path) -> None:
    """Some splits are empty; the others have fewer clusters than they should."""
    rng = np.random.default_rng(4)
    vectors, _ = planted(rng, 9, DIM, 3)
    store = fill(Store(tmp_path), names(rng, 9), vectors, parts=2)
    table = clustered(store, levels=[40], splits=20, iterations=2)
    counts = table.fragments["level-0"].read().column("training_count").to_pylist()
    assert sum(counts) == 7
    assert min(counts) == 1


@pytest.mark.parametrize("clusters", [7, 100, 10_000_000])
@pytest.mark.parametrize("splits", [1, 3, 7])
def test_splits_have_about_as_many_clusters(clusters: int, splits: int) -> None:
    shares = split_clusters(clusters, splits)
    assert sum(shares) == clusters
    assert len(shares) == splits
    assert max(shares) - min(shares) <= 1


def test_more_splits_than_clusters_are_an_error() -> None:
    with pytest.raises(RecipeError, match="splits: 5 parts of 4 clusters"):
        recipe(levels=[4], splits=5)
