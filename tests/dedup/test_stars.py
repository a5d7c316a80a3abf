"""Components joined by exchanges are those of scipy, whatever the graph and however it is cut."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curation.algorithms.components.distributed import EDGES, components, edges_table, read_labels
from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.parallel import InProcess
from curation.engine.spark_workers import SparkWorkers
from curation.engine.store import Store
from curation.engine.units import empty_batch
from curation.errors import CurationError


def edges_of(left, right):
    yield empty_batch(EDGES)
    ends = np.maximum(left, right), np.minimum(left, right)
    yield from pa.table(list(ends), schema=EDGES).to_batches()
    return None


def joining(folder, parallel=None) -> Context:
    return Context(Store(folder), parallel or InProcess(), "joining", ["test"])


def labels_of(left, right, nodes, pieces, context):
    """Label each of the nodes by exchanges over edges in pieces, not joined beforehand."""
    cut = zip(np.array_split(left, pieces), np.array_split(right, pieces), strict=True)
    items = {f"edges-{n}": {"left": a, "right": b} for n, (a, b) in enumerate(cut)}
    made = context.compute("edges", edges_of, items)
    found = components([Fragment(context.store, r) for r in made.values()], context)
    own = {}
    for record in found[-1]:
        for table in read_labels(Fragment(context.store, record)):
            own.update(zip(*(table.column(n).to_pylist() for n in ("node", "label")), strict=True))
    return np.array([own.get(node, node) for node in nodes.tolist()], np.uint64)


def expected(left, right, nodes):
    """The smallest node of each component, by scipy."""
    shape = (len(nodes), len(nodes))
    graph = coo_array((np.ones(len(left)), (left, right)), shape=shape)
    _, group = connected_components(graph, directed=False)
    least = np.full(group.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, group, nodes)
    return least[group]


def graph(kind: str, rng) -> tuple[np.ndarray, np.ndarray, int]:
    n = 3_000
    if kind == "sparse":
        return *rng.integers(0, n, (2, n // 2)), n
    if kind == "about one giant":
        return *rng.integers(0, n, (2, n)), n
    if kind == "star":
        return np.zeros(n - 1, int), np.arange(1, n), n
    if kind == "power law":
        return rng.zipf(1.7, n) % n, rng.integers(0, n, n), n
    path = np.arange(n) if kind == "path" else rng.permutation(n)
    return path[:-1], path[1:], n


KINDS = ("sparse", "about one giant", "star", "power law", "path", "path in no order")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("pieces", "ends", "at_once"),
    [(40, 500, 10_000), (1, 10_000, 0), (40, 500, 0), (40, 500, 2000)],
)
def test_the_partition_is_scipys(tmp_path, kind, pieces, ends, at_once, monkeypatch):
    """By one worker, by one part, by many parts, and by many until one can do it."""
    monkeypatch.setattr("curation.algorithms.components.distributed.ENDS_A_PART", ends)
    monkeypatch.setattr("curation.algorithms.components.distributed.AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    left, right, n = graph(kind, rng)
    # Numbers in no order, as hashes are, some beyond int64; and in the order of the graph.
    for number, nodes in enumerate(
        (rng.integers(0, 2**64, n, np.uint64), np.arange(n, dtype=np.uint64))
    ):
        context = joining(tmp_path / str(number))
        found = labels_of(nodes[left], nodes[right], nodes, pieces, context)
        np.testing.assert_array_equal(found, expected(left, right, nodes))


def test_on_spark(tmp_path, spark, monkeypatch):
    monkeypatch.setattr("curation.algorithms.components.distributed.ENDS_A_PART", 2_000)
    monkeypatch.setattr("curation.algorithms.components.distributed.AT_ONCE", 0)
    rng = np.random.default_rng(1)
    left, right, n = graph("about one giant", rng)
    nodes = rng.integers(0, 2**64, n, np.uint64)
    found = labels_of(
        nodes[left], nodes[right], nodes, 5, joining(tmp_path, SparkWorkers(lambda: spark))
    )
    np.testing.assert_array_equal(found, expected(left, right, nodes))


@pytest.mark.parametrize("at_once", [0, 10])
def test_no_edges(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("curation.algorithms.components.distributed.AT_ONCE", at_once - 1)
    nodes = np.arange(5, dtype=np.uint64)
    none = np.empty(0, np.uint64)
    found = labels_of(none, none, nodes, 2, joining(tmp_path))
    np.testing.assert_array_equal(found, nodes)


def test_without_end_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("curation.algorithms.components.distributed.ROUNDS", 1)
    monkeypatch.setattr("curation.algorithms.components.distributed.ENDS_A_PART", 100)
    monkeypatch.setattr("curation.algorithms.components.distributed.AT_ONCE", 0)
    path = np.random.default_rng(0).permutation(500).astype(np.uint64)
    with pytest.raises(CurationError, match=r"not joined after 1 rounds.*rows_at_once"):
        labels_of(path[:-1], path[1:], path, 20, joining(tmp_path))


def test_edges_are_joined_as_far_as_they_go():
    rng = np.random.default_rng(2)
    ends = rng.integers(0, 2**64, 200, np.uint64)[rng.integers(0, 200, (2, 150))]
    table = edges_table(*ends)
    left, right = (table.column(name).to_numpy() for name in EDGES.names)
    assert (right < left).all()
    assert len(set(left.tolist())) == len(left)
    nodes = np.unique(ends)
    places = np.searchsorted(nodes, ends)
    whole = expected(*places, nodes)
    np.testing.assert_array_equal(whole[np.searchsorted(nodes, left)], right)
    assert len(left) == len(nodes) - len(np.unique(whole))
