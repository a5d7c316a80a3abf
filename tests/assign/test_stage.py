"""Assignments do not depend on how fragments share a task, and finished ones are not computed again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.arrays.vectors import vector_array
from curation.algorithms.kmeans.backends.nearest import Centroids
from curation.algorithms.kmeans.lloyd import directions, make_centroids
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import Step, plan
from curation.runner.step import StepResult
from curation.stages.assign import stage
from curation.store.fragment import Fragment
from curation.store.store import Store

from ..cluster.test_stage import recipe
from ..kmeans.data import names, planted
from ..tables import commit_batches, embedding_batch, run_step

DIM, CLUSTERS = 16, 400


def assign_step(**cluster: Any) -> Step:
    (step,) = (step for step in plan(recipe(**cluster)) if step.name == "assign")
    return step


class World:
    """A store with centroids, and fragments of vectors of which some rows have none."""

    def __init__(self, folder: Path, sizes: list[int]) -> None:
        rng = np.random.default_rng(0)
        self.store = Store(folder)
        self.ids = names(rng, sum(sizes))
        self.vectors, _ = planted(rng, len(self.ids), DIM, 40)
        self.vectors[::5] = 0
        self.centroids = planted(rng, CLUSTERS, DIM, CLUSTERS, dtype=np.float32)[0]
        self.centroids[CLUSTERS // 2] = self.centroids[0]
        self.bounds = np.cumsum([0, *sizes])
        levels = [(0, self.centroids), (1, self.centroids[:3])]
        commit_batches(
            self.store, "centroids", {f"level-{n}": level_batch(n, v) for n, v in levels}
        )
        self.commit(len(sizes))

    def commit(self, count: int) -> None:
        """Commit the first fragments."""
        parts = zip(self.bounds[:count], self.bounds[1 : count + 1], strict=True)
        batches = {
            f"web-{number}": embedding_batch(self.ids[start:stop], self.vectors[start:stop])
            for number, (start, stop) in enumerate(parts)
        }
        commit_batches(self.store, "embeddings.semantic", batches)

    def expected(self, metric: Any) -> tuple[np.ndarray, np.ndarray]:
        """The nearest centroid of each row by brute force in float64, and the similarity to it."""
        centroids = make_centroids(self.centroids, metric)
        scores = self.vectors.astype(np.float64) @ self.centroids.astype(np.float64).T
        nearest = (scores - centroids.offset).argmax(axis=1)
        rows = np.arange(len(self.vectors))
        similarity = exact_similarity(self.vectors, directions(centroids), rows, nearest)
        return nearest, similarity


def level_batch(number: int, vectors: np.ndarray) -> pa.RecordBatch:
    count = len(vectors)
    columns = {
        "level": pa.array(np.full(count, number, np.int32)),
        "cluster_id": pa.array(np.arange(count, dtype=np.int32)),
        "vector": vector_array(vectors),
        "training_count": pa.array(np.ones(count, np.int64)),
        "parent_id": pa.nulls(count, pa.int32()),
    }
    return pa.RecordBatch.from_pydict(columns)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks each reading of the centroids had."""
    counted: list[int] = []
    blocks_of = stage._blocks_of

    def counting(level: Fragment, metric: Any) -> Iterator[Centroids]:
        counted.append(0)
        for block in blocks_of(level, metric):
            counted[-1] += 1
            yield block

    monkeypatch.setattr(stage, "_blocks_of", counting)
    return counted


def digests(store: Store) -> dict[str, list[str]]:
    """The checksums of the files of `assignments` by fragment."""
    fragments = open_table(store, "assignments").fragments.values()
    return {f.name: [file.sha256 for file in f.record.files] for f in fragments}


def run(world: World, workers: InProcess | None = None, **cluster: Any) -> StepResult:
    return run_step(assign_step(**cluster), world.store, workers or InProcess())


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
def test_tasks_and_blocks_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readings: list[int], metric: str
) -> None:
    sizes = [40, 1, 25, 30, 5, 60]
    alone = World(tmp_path / "alone", sizes)
    run(alone, metric=metric, assign_gib=1e-9)
    # The fragment with one row has no vector.
    assert readings == [1] * 5
    rows = open_table(alone.store, "assignments").read()
    nearest, similarity = alone.expected(metric)
    has_vector = alone.vectors.any(axis=1)
    assert rows.column("cluster_id").is_valid().to_pylist() == has_vector.tolist()
    assert rows.column("cluster_id").drop_null().to_numpy().tolist() == nearest[has_vector].tolist()
    assert rows.column("similarity").drop_null().to_numpy().tobytes() == (
        similarity[has_vector].tobytes()
    )
    assert rows.column("pair_id").to_pylist() == [name.decode() for name in alone.ids]
    monkeypatch.setattr(stage, "BLOCK_BYTES", 7 * 4 * DIM)
    monkeypatch.setattr(stage, "ROWS_PER_READ", 3)
    readings.clear()
    together = World(tmp_path / "together", sizes)
    run(together, metric=metric)
    # A task holds as many bytes as the centroids have, so some fragments share one.
    assert 1 <= len(readings) < 5
    assert set(readings) == {-(-CLUSTERS // 9)}
    assert digests(together.store) == digests(alone.store)


def test_a_grown_pool_computes_its_new_fragments_alone(tmp_path: Path, readings: list[int]) -> None:
    world = World(tmp_path, [20] * 7)
    world.commit(3)
    assert run(world).computed == 3
    before = digests(world.store)
    readings.clear()
    world.commit(7)
    result = run(world)
    assert (result.computed, result.reused) == (4, 3)
    assert len(readings) < 4
    after = digests(world.store)
    assert {name: after[name] for name in before} == before
    assert run(world).up_to_date


def test_each_worker_has_tasks(tmp_path: Path, readings: list[int]) -> None:
    """Units are joined only as far as every worker still has two."""
    workers = InProcess()
    workers.slots = 3
    run(World(tmp_path, [20] * 12), workers)
    assert 6 <= len(readings) < 12


def test_fragments_without_vectors_read_no_centroids(tmp_path: Path, readings: list[int]) -> None:
    world = World(tmp_path, [4, 6])
    world.vectors[:] = 0
    world.commit(2)
    assert run(world).rows == 10
    assert readings == []
    rows = open_table(world.store, "assignments").read()
    assert rows.column("cluster_id").null_count == 10
