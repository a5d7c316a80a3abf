"""UnionFind against a plain union-find and scipy, for any order, cut and shape of the edges."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curation.algorithms.components import union_find as module
from curation.algorithms.components.union_find import UnionFind

Graph = tuple[int, np.ndarray, np.ndarray, list[int]]
"""Number of nodes, the ends of the edges, and where the edges are cut."""


def plain_union_find(n: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The smallest node of each node's component, edge by edge."""
    parent = list(range(n))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in zip(left, right, strict=True):
        a, b = sorted((root(a), root(b)))
        parent[b] = a
    return np.array([root(node) for node in range(n)], dtype=np.int64)


def by_scipy(n: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    ones = np.ones(len(left), dtype=np.int8)
    _, label = connected_components(coo_array((ones, (left, right)), shape=(n, n)), directed=False)
    _, first = np.unique(label, return_index=True)
    smallest: np.ndarray = first[label]
    return smallest


def labels_of(
    n: int, left: np.ndarray, right: np.ndarray, cuts: Sequence[int] | np.ndarray = ()
) -> np.ndarray:
    """Labels after one call of `union` for each piece of the edges."""
    components = UnionFind(n)
    for left_ends, right_ends in zip(np.split(left, cuts), np.split(right, cuts), strict=True):
        components.union(left_ends, right_ends)
    return components.labels()


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Edges among up to 40 nodes: random ones, chains up and down, stars, repeats, loops."""
    n = draw(st.integers(1, 40))
    node = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=60))
    for _ in range(draw(st.integers(0, 3))):
        members = draw(st.lists(node, min_size=1, max_size=20))
        shape = draw(st.sampled_from(["chain", "up", "down", "star", "repeat"]))
        if shape == "star":
            edges += [(members[0], m) for m in members]
        elif shape == "repeat":
            edges += edges[: len(members)]
        else:
            if shape != "chain":
                members = sorted(members, reverse=shape == "down")
            edges += pairwise(members)
    order = draw(st.permutations(range(len(edges))))
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    ends = np.array([edges[i] for i in order], dtype=dtype).reshape(-1, 2)
    cuts = sorted(draw(st.lists(st.integers(0, len(ends)), max_size=4)))
    return n, ends[:, 0], ends[:, 1], cuts


@settings(max_examples=400, deadline=None)
@given(graph=graphs(), chunk=st.sampled_from([1, 3, 2**17]), seed=st.integers(0, 99))
def test_equals_union_find_in_any_order_and_cut(graph: Graph, chunk: int, seed: int) -> None:
    n, left, right, cuts = graph
    expected, default = plain_union_find(n, left, right), module.EDGES_PER_CHUNK
    module.EDGES_PER_CHUNK = chunk
    try:
        np.testing.assert_array_equal(labels_of(n, left, right, cuts), expected)
        order = np.random.default_rng(seed).permutation(len(left))
        np.testing.assert_array_equal(labels_of(n, right[order], left[order]), expected)
    finally:
        module.EDGES_PER_CHUNK = default


@pytest.mark.parametrize("edges", [100_000, 400_000])
def test_equals_scipy_on_larger_graphs(edges: int) -> None:
    rng = np.random.default_rng(edges)
    n = 300_000
    for power in (1, 4):
        left, right = (rng.random((2, edges)) ** power * n).astype(np.int64)
        left, right = left * 7_919 % n, right * 7_919 % n
        labels = labels_of(n, left, right, cuts=[edges // 3])
        np.testing.assert_array_equal(labels, by_scipy(n, left, right))


def test_labels_between_unions() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 1000, (2, 900))
    components = UnionFind(1000)
    for edges in (300, 600, 900):
        components.union(left[edges - 300 : edges], right[edges - 300 : edges])
        expected = by_scipy(1000, left[:edges], right[:edges])
        np.testing.assert_array_equal(components.labels(), expected)


def path_of(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return names[:-1], names[1:]


def shaped(shape: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges of one component of n nodes."""
    rng, nodes = np.random.default_rng(0), np.arange(n)
    if shape == "star below":
        return np.zeros_like(nodes), nodes
    if shape.startswith("star above"):
        return np.full_like(nodes, n - 1), nodes[:: -1 if "down" in shape else 1]
    if shape == "tree":
        return nodes, nodes // 2
    if shape == "path, shuffled":
        order = rng.permutation(n - 1)
        return nodes[:-1][order], nodes[1:][order]
    if shape == "path, zigzag":
        return path_of(np.where(nodes % 2, n - 1 - nodes // 2, nodes // 2))
    names = {"up": nodes, "down": nodes[::-1], "renamed": rng.permutation(n)}
    return path_of(names[shape.removeprefix("path, ")])


@pytest.mark.parametrize(
    "shape",
    [
        *("path, up", "path, down", "path, shuffled", "path, zigzag", "path, renamed"),
        *("star below", "star above", "star above, down", "tree"),
    ],
)
@pytest.mark.parametrize("calls", [1, 1000])
def test_a_million_nodes_take_seconds_in_the_worst_shapes(shape: str, calls: int) -> None:
    """The longest chains, and stars around the largest node, which could take one round per edge."""
    n = 1_000_000
    left, right = shaped(shape, n)
    begun = time.process_time()
    labels = labels_of(n, left, right, np.linspace(0, len(left), calls + 1).astype(int)[1:-1])
    assert time.process_time() - begun < 20
    assert not labels.any()


def test_labels_are_a_view_of_the_one_array() -> None:
    assert UnionFind(5).labels().dtype == np.int32
    labels = labels_of(5, np.array([3]), np.array([4]))
    assert labels.tolist() == [0, 1, 2, 3, 3]
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 1


def test_without_edges_each_node_is_a_component() -> None:
    nothing = np.empty(0, dtype=np.int32)
    for n in (0, 1, 3):
        assert labels_of(n, nothing, nothing).tolist() == list(range(n))


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ([0, 3], [0, 1], "no node 3: there are 3"),
        ([0, 1], [-1, 1], "no node -1"),
        ([2**33], [0], f"no node {2**33}"),
        ([0, 1], [2], "one length"),
        ([[0, 1]], [[1, 2]], "one length"),
        ([0.0], [1.0], "not float64"),
    ],
)
def test_invalid_edges_are_refused_and_none_is_added(
    left: list[Any], right: list[Any], words: str
) -> None:
    components = UnionFind(3)
    with pytest.raises(ValueError, match=words):
        components.union(np.array(left), np.array(right))
    assert components.labels().tolist() == [0, 1, 2]


def test_a_negative_number_of_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="not -1"):
        UnionFind(-1)
