"""Components found by exchanges equal those of scipy, for any graph and any cut of its edges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import coo_array, csgraph

from curation.algorithms.components import distributed_components
from curation.algorithms.components.distributed_components import (
    EDGES,
    connected_components,
    local_stars,
    read_labels,
)
from curation.engine.context import Context
from curation.engine.parallel import InProcess, Parallel
from curation.engine.spark_workers import SparkWorkers
from curation.engine.units import StageOutput, empty_batch
from curation.errors import CurationError
from curation.store.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def write_edges(left: np.ndarray, right: np.ndarray) -> StageOutput:
    yield empty_batch(EDGES)
    ends = np.maximum(left, right), np.minimum(left, right)
    yield from pa.table(list(ends), schema=EDGES).to_batches()
    return None


def context_in(folder: Path, parallel: Parallel | None = None) -> Context:
    return Context(Store(folder), parallel or InProcess(), "joining", ["test"])


def labels_of(
    left: np.ndarray, right: np.ndarray, nodes: np.ndarray, pieces: int, context: Context
) -> np.ndarray:
    """Label the nodes by exchanges over pieces of the edges, which are not joined beforehand."""
    cut = zip(np.array_split(left, pieces), np.array_split(right, pieces), strict=True)
    items = {f"edges-{n}": {"left": a, "right": b} for n, (a, b) in enumerate(cut)}
    edges = list(context.compute("edges", write_edges, items).values())
    labels: dict[int, int] = {}
    for stars in connected_components(edges, context)[-1]:
        for table in read_labels(stars):
            columns = (table.column(name).to_pylist() for name in ("node", "label"))
            labels.update(zip(*columns, strict=True))
    return np.array([labels.get(node, node) for node in nodes.tolist()], np.uint64)


def expected(left: np.ndarray, right: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The smallest node of each component, by scipy."""
    shape = (len(nodes), len(nodes))
    graph = coo_array((np.ones(len(left)), (left, right)), shape=shape)
    _, group = csgraph.connected_components(graph, directed=False)
    least = np.full(group.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, group, nodes)
    labels: np.ndarray = least[group]
    return labels


def graph(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    n = 3_000
    if kind == "sparse":
        return *rng.integers(0, n, (2, n // 2)), n
    if kind == "about one giant component":
        return *rng.integers(0, n, (2, n)), n
    if kind == "star":
        return np.zeros(n - 1, int), np.arange(1, n), n
    if kind == "power law":
        return rng.zipf(1.7, n) % n, rng.integers(0, n, n), n
    path = np.arange(n) if kind == "path" else rng.permutation(n)
    return path[:-1], path[1:], n


KINDS = ("sparse", "about one giant component", "star", "power law", "path", "shuffled path")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("pieces", "ends", "at_once"),
    [(40, 500, 10_000), (1, 10_000, 0), (40, 500, 0), (40, 500, 2000)],
)
def test_labels_equal_those_of_scipy(
    tmp_path: Path, kind: str, pieces: int, ends: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one worker, in one part, in many parts, and in many parts until one worker can do the rest."""
    monkeypatch.setattr(distributed_components, "EDGE_ENDS_PER_PART", ends)
    monkeypatch.setattr(distributed_components, "EDGES_ON_ONE_WORKER", at_once)
    rng = np.random.default_rng(0)
    left, right, n = graph(kind, rng)
    # Random numbers, as hashes are, some too large for int64; and numbers in the order of the graph.
    for number, nodes in enumerate(
        (rng.integers(0, 2**64, n, np.uint64), np.arange(n, dtype=np.uint64))
    ):
        context = context_in(tmp_path / str(number))
        labels = labels_of(nodes[left], nodes[right], nodes, pieces, context)
        np.testing.assert_array_equal(labels, expected(left, right, nodes))


def test_spark_workers_give_the_same_components(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed_components, "EDGE_ENDS_PER_PART", 2_000)
    monkeypatch.setattr(distributed_components, "EDGES_ON_ONE_WORKER", 0)
    rng = np.random.default_rng(1)
    left, right, n = graph("about one giant component", rng)
    nodes = rng.integers(0, 2**64, n, np.uint64)
    labels = labels_of(
        nodes[left],
        nodes[right],
        nodes,
        5,
        context_in(tmp_path, SparkWorkers(lambda: spark.sparkContext)),
    )
    np.testing.assert_array_equal(labels, expected(left, right, nodes))


@pytest.mark.parametrize("at_once", [0, 10])
def test_without_edges_each_node_is_a_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(distributed_components, "EDGES_ON_ONE_WORKER", at_once - 1)
    nodes = np.arange(5, dtype=np.uint64)
    none = np.empty(0, np.uint64)
    labels = labels_of(none, none, nodes, 2, context_in(tmp_path))
    np.testing.assert_array_equal(labels, nodes)


def test_too_many_rounds_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed_components, "MAX_ROUNDS", 1)
    monkeypatch.setattr(distributed_components, "EDGE_ENDS_PER_PART", 100)
    monkeypatch.setattr(distributed_components, "EDGES_ON_ONE_WORKER", 0)
    path = np.random.default_rng(0).permutation(500).astype(np.uint64)
    with pytest.raises(CurationError, match=r"not joined after 1 rounds.*rows_at_once"):
        labels_of(path[:-1], path[1:], path, 20, context_in(tmp_path))


def test_local_stars_have_the_same_components() -> None:
    rng = np.random.default_rng(2)
    ends = rng.integers(0, 2**64, 200, np.uint64)[rng.integers(0, 200, (2, 150))]
    table = local_stars(*ends)
    left, right = (table.column(name).to_numpy() for name in EDGES.names)
    assert (right < left).all()
    assert len(set(left.tolist())) == len(left)
    nodes = np.unique(ends)
    positions = np.searchsorted(nodes, ends)
    smallest = expected(positions[0], positions[1], nodes)
    np.testing.assert_array_equal(smallest[np.searchsorted(nodes, left)], right)
    assert len(left) == len(nodes) - len(np.unique(smallest))
