"""The stage over fragments: in memory and in files, in other fragments, stopped, and with levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.algorithms.arrays.vectors import vector_matrix
from curation.algorithms.kmeans import hierarchy
from curation.algorithms.kmeans import lloyd as lloyd_module
from curation.algorithms.kmeans.backends.nearest import Centroids
from curation.algorithms.kmeans.hierarchy import Resampling, TrainingOptions
from curation.algorithms.kmeans.levels import at_level, read_parents
from curation.algorithms.kmeans.lloyd import Metric, TrainedLevel
from curation.algorithms.kmeans.points import ClusterSums
from curation.algorithms.knn.sample import is_sampled
from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.errors import RecipeError, StoreError
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.store.store import Store

from ..kmeans.data import names, planted, planted_pool
from ..tables import commit, commit_batches, embedding_batch, run_step

DIM = 24


def recipe(**cluster: Any) -> Recipe:
    source = {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}}
    return parse_recipe({"name": "clusters", "sources": [source], "cluster": cluster})


def fill(store: Store, ids: np.ndarray, vectors: np.ndarray, parts: int) -> Store:
    """Commit a pool of `parts` fragments, in which every seventh row is dropped."""
    rows, batches = {}, {}
    for number, part in enumerate(np.array_split(np.arange(len(ids)), parts)):
        fragment = f"web-{number}"
        rows[fragment] = [
            {
                "pair_id": ids[i].decode(),
                "image_id": ids[i].decode(),
                "role": "pool",
                "source": "web",
                "status": "dropped" if i % 7 == 0 else "eligible",
                "reason": "min_side" if i % 7 == 0 else None,
            }
            for i in part
        ]
        batches[fragment] = embedding_batch(ids[part], vectors[part])
    commit(store, "eligible", rows)
    commit_batches(store, "embeddings.semantic", batches)
    return store


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, np.ndarray]:
    return planted_pool(0, 3000, DIM)


def clustered(store: Store, **cluster: Any) -> Table:
    (step,) = (s for s in plan(recipe(**cluster)) if s.name == "cluster")
    run_step(step, store, InProcess())
    return open_table(store, "centroids")


def rows_of(table: Table) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = table.read().to_pydict()
    return rows


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_files_memory_back_ends_and_fragments_give_the_same_bits(
    pool: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
) -> None:
    # Small limits, so that there are several shards and ranges of clusters.
    monkeypatch.setattr("curation.algorithms.kmeans.sharded.SHARD_ROWS", 700)
    monkeypatch.setattr("curation.algorithms.kmeans.sharded.RANGE_BYTES", 8 * DIM * 9)
    options = {"levels": [40], "max_points_per_centroid": 50, "iterations": 6, "metric": metric}
    tables = []
    cases: list[tuple[int, dict[str, Any]]] = [
        (1, {}),
        (4, {"memory_gib": 0}),
        (7, {"backend": "faiss"}),
        (3, {"memory_gib": 0, "backend": "faiss"}),
    ]
    for parts, other_options in cases:
        store = fill(Store(tmp_path / f"{parts}"), pool[0], pool[1], parts)
        tables.append(rows_of(clustered(store, **options, **other_options)))
    assert len(tables[0]["cluster_id"]) == 40
    assert sum(tables[0]["training_count"]) < 2571
    for table in tables[1:]:
        assert table == tables[0]


def test_finds_planted_clusters(pool: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    """Most of thirty clusters are found, and the objective never falls."""
    store = fill(Store(tmp_path), pool[0], pool[1], 2)
    table = clustered(store, levels=[30], start="kmeans++", iterations=25)
    (objective,) = table.manifest.stats["objective"]
    assert (np.diff(objective) > -1e-7).all()
    matrix = vector_matrix(table.read().column("vector"), "<f4").astype(np.float64)
    centres = np.random.default_rng(0).normal(size=(30, DIM))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    assert ((centres @ matrix.T).max(axis=1) > 0.97).mean() >= 0.75


class Killed(BaseException):
    """Stands for a kill, because no stage catches it."""


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_a_killed_run_continues_after_the_last_pass(
    pool: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: float,
) -> None:
    options = {"levels": [25], "iterations": 8, "memory_gib": memory}
    expected = rows_of(clustered(fill(Store(tmp_path / "whole"), pool[0], pool[1], 3), **options))
    store = fill(Store(tmp_path / "killed"), pool[0], pool[1], 3)
    passes = []
    update_centroids = lloyd_module.update_centroids

    def killed_in_the_fifth_pass(
        sums: ClusterSums, centroids: Centroids, metric: Metric
    ) -> np.ndarray:
        passes.append(1)
        if len(passes) == 5:
            raise Killed
        return update_centroids(sums, centroids, metric)

    monkeypatch.setattr(lloyd_module, "update_centroids", killed_in_the_fifth_pass)
    with pytest.raises(Killed):
        clustered(store, **options)
    assert rows_of(clustered(store, **options)) == expected
    # Nine passes, of which only the fifth ran twice.
    assert len(passes) <= 10


def test_each_cluster_belongs_to_the_nearest_of_the_next_level(
    pool: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    store = fill(Store(tmp_path), pool[0], pool[1], 3)
    table = clustered(store, levels=[200, 30, 5], resampling={"rounds": 3})
    rows = table.read().to_pandas()
    assert rows.groupby("level")["cluster_id"].count().tolist() == [200, 30, 5]
    parents = read_parents(table)
    assert [len(p) for p in parents] == [200, 30]
    fine, middle, top = (rows[rows["level"] == level] for level in range(3))
    assert top["parent_id"].isna().all()
    for below, above in ((fine, middle), (middle, top)):
        matrices = [
            np.stack([np.frombuffer(v, "<f4") for v in part["vector"]]).astype(np.float64)
            for part in (below, above)
        ]
        nearest = (matrices[0] @ matrices[1].T).argmax(axis=1)
        np.testing.assert_array_equal(below["parent_id"].to_numpy(), nearest)
        members = np.bincount(nearest, minlength=len(above))
        np.testing.assert_array_equal(above["training_count"].to_numpy(), members)
    clusters = np.array([0, 199, -1], np.int32)
    at_top = at_level(2, clusters, parents)
    assert at_top[2] == -1
    assert at_top[1] == parents[1][parents[0][199]]
    with pytest.raises(RecipeError, match="the coarsest level is 2"):
        at_level(3, clusters, parents)


def test_levels_that_the_data_cannot_fill_give_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(1)
    ids, (vectors, _) = names(rng, 40), planted(rng, 40, DIM, 4)
    table = clustered(fill(Store(tmp_path), ids, vectors, 1), levels=[1000, 100, 10])
    assert table.manifest.stats["clusters"] == [34, 34, 10]
    assert "1000 clusters requested, 34 found" in caplog.text
    assert "level 1, of 100 clusters, repeats level 0, which has only 34" in caplog.text
    # Level 2 stays level 2, for arms and caps that name it.
    rows = table.read().to_pandas()
    repeated = rows[rows["level"] == 1]
    assert repeated["vector"].tolist() == rows[rows["level"] == 0]["vector"].tolist()
    assert repeated["training_count"].tolist() == [1] * 34
    clusters = np.arange(34, dtype=np.int32)
    parents = read_parents(table)
    np.testing.assert_array_equal(at_level(1, clusters, parents), clusters)
    np.testing.assert_array_equal(at_level(2, clusters, parents), repeated["parent_id"])


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize("different", [1, 2, 7])
def test_every_level_of_the_recipe_is_there_however_few_vectors_differ(
    tmp_path: Path, metric: str, different: int
) -> None:
    rng = np.random.default_rng(4)
    vectors = np.repeat(planted(rng, different, DIM, different)[0], 5, axis=0)
    store = fill(Store(tmp_path), names(rng, len(vectors)), vectors, 1)
    table = clustered(store, levels=[50, 5, 3, 1], metric=metric)
    sizes = [min(size, different) for size in (50, 5, 3, 1)]
    assert table.manifest.stats["clusters"] == sizes
    assert [len(parents) for parents in read_parents(table)] == sizes[:-1]


def test_each_level_keeps_its_resampling_when_a_finer_one_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    ids, (vectors, _) = names(rng, 60), planted(rng, 60, DIM, 4)
    calls = []
    train_with_resampling = hierarchy.train_with_resampling

    def recorded(
        vectors: np.ndarray,
        clusters: int,
        resampling: Resampling,
        options: TrainingOptions,
        salt: int,
    ) -> tuple[TrainedLevel, np.ndarray]:
        calls.append((clusters, resampling.nearest))
        return train_with_resampling(vectors, clusters, resampling, options, salt)

    monkeypatch.setattr(hierarchy, "train_with_resampling", recorded)
    levels = {"levels": [1000, 100, 10, 3], "resampling": {"rounds": 2, "nearest": [9, 4, 2]}}
    clustered(fill(Store(tmp_path), ids, vectors, 1), **levels)
    assert calls == [(10, 4), (3, 2)]


def test_nothing_to_cluster_is_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ids = names(rng, 1)
    with pytest.raises(StoreError, match="nothing to cluster"):
        clustered(fill(Store(tmp_path), ids, np.ones((1, DIM), np.float16), 1), levels=[2])


def test_a_training_sample_without_an_image_is_an_error_of_the_recipe(tmp_path: Path) -> None:
    pools = (names(np.random.default_rng(number), 50) for number in range(100))
    ids = next(ids for ids in pools if not is_sampled(ids, 1 / 42, 0).any())
    vectors = planted(np.random.default_rng(5), 50, DIM, 4)[0]
    store = fill(Store(tmp_path), ids, vectors, 1)
    with pytest.raises(RecipeError, match=r"none of the 4\d eligible images"):
        clustered(store, levels=[1], max_points_per_centroid=1)
    clustered(store, levels=[1], max_points_per_centroid=50)


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"levels": [10, 100]}, "the finest stands first"),
        ({"levels": [10, 10]}, "fewer clusters"),
        ({"levels": [100, 10], "resampling": {"nearest": [3, 2]}}, "here 1"),
        ({"levels": [0]}, "greater than or equal to 1"),
        ({"metric": "manhattan"}, "spherical"),
    ],
)
def test_impossible_clusters_are_refused_before_any_work(
    cluster: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe(**cluster)


@pytest.mark.parametrize("start", ["random", "kmeans++"])
def test_clusters_start_at_different_vectors_however_many_are_equal(
    start: str, tmp_path: Path
) -> None:
    """Most of the points that first centroids are chosen among are equal; there are more than those."""
    rng = np.random.default_rng(0)
    vectors, _ = planted(rng, 3000, DIM, 40)
    vectors[rng.permutation(3000)[:2800]] = vectors[0]
    ids, tables = names(rng, 3000), []
    for number, cluster in enumerate(({}, {"memory_gib": 0})):
        store = fill(Store(tmp_path / str(number)), ids, vectors, 5)
        blocks = {"levels": [50], "start": start, "iterations": 3} | cluster
        tables.append(clustered(store, **blocks))
    (in_memory, in_files) = tables
    assert in_memory.manifest.stats["clusters"] == [50]
    assert rows_of(in_memory) == rows_of(in_files)
