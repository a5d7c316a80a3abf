"""Components against a plain union-find and scipy, for any order, cut and shape of the edges."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curation.algorithms.components import union_find as forest
from curation.algorithms.components.union_find import Forest


def union_find(n: int, left, right) -> np.ndarray:
    """The smallest member of each node's component, edge by edge."""
    parent = list(range(n))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in zip(left, right, strict=True):
        a, b = sorted((root(a), root(b)))
        parent[b] = a
    return np.array([root(node) for node in range(n)], dtype=np.int64)


def by_scipy(n: int, left, right) -> np.ndarray:
    ones = np.ones(len(left), dtype=np.int8)
    _, label = connected_components(coo_array((ones, (left, right)), shape=(n, n)), directed=False)
    _, first = np.unique(label, return_index=True)
    return first[label]


def joined(n: int, left, right, cuts=()) -> np.ndarray:
    found = Forest(n)
    for own, other in zip(np.split(left, cuts), np.split(right, cuts), strict=True):
        found.join(own, other)
    return found.labels()


@st.composite
def graphs(draw):
    """Edges among up to 40 nodes: random ones, chains up and down, stars, repeated, to themselves."""
    n = draw(st.integers(1, 40))
    node = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=60))
    for _ in range(draw(st.integers(0, 3))):
        members = draw(st.lists(node, min_size=1, max_size=20))
        shape = draw(st.sampled_from(["chain", "up", "down", "star", "again"]))
        if shape == "star":
            edges += [(members[0], m) for m in members]
        elif shape == "again":
            edges += edges[: len(members)]
        else:
            if shape != "chain":
                members = sorted(members, reverse=shape == "down")
            edges += pairwise(members)
    order = draw(st.permutations(range(len(edges))))
    kind = draw(st.sampled_from([np.int32, np.int64]))
    ends = np.array([edges[i] for i in order], dtype=kind).reshape(-1, 2)
    cuts = sorted(draw(st.lists(st.integers(0, len(ends)), max_size=4)))
    return n, ends[:, 0], ends[:, 1], cuts


@settings(max_examples=400, deadline=None)
@given(graph=graphs(), chunk=st.sampled_from([1, 3, 2**17]), seed=st.integers(0, 99))
def test_equals_union_find_in_any_order_and_cut(graph, chunk, seed):
    n, left, right, cuts = graph
    expected, whole = union_find(n, left, right), forest.CHUNK
    forest.CHUNK = chunk
    try:
        np.testing.assert_array_equal(joined(n, left, right, cuts), expected)
        order = np.random.default_rng(seed).permutation(len(left))
        np.testing.assert_array_equal(joined(n, right[order], left[order]), expected)
    finally:
        forest.CHUNK = whole


@pytest.mark.parametrize("edges", [100_000, 400_000])
def test_equals_scipy_on_larger_graphs(edges):
    rng = np.random.default_rng(edges)
    n = 300_000
    for power in (1, 4):
        left, right = (rng.random((2, edges)) ** power * n).astype(np.int64)
        left, right = left * 7_919 % n, right * 7_919 % n
        found = joined(n, left, right, cuts=[edges // 3])
        np.testing.assert_array_equal(found, by_scipy(n, left, right))


def test_labels_between_joins():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 1000, (2, 900))
    found = Forest(1000)
    for edges in (300, 600, 900):
        found.join(left[edges - 300 : edges], right[edges - 300 : edges])
        np.testing.assert_array_equal(found.labels(), by_scipy(1000, left[:edges], right[:edges]))


def path_of(names) -> tuple[np.ndarray, np.ndarray]:
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
def test_a_million_nodes_take_seconds_in_the_worst_shapes(shape, calls):
    """Chains are as long as they get; a star over all others could lose but one edge a round."""
    n = 1_000_000
    left, right = shaped(shape, n)
    begun = time.process_time()
    found = joined(n, left, right, np.linspace(0, len(left), calls + 1).astype(int)[1:-1])
    assert time.process_time() - begun < 20
    assert not found.any()


def test_labels_are_a_view_of_the_one_array():
    assert Forest(5).labels().dtype == np.int32
    labels = joined(5, np.array([3]), np.array([4]))
    assert labels.tolist() == [0, 1, 2, 3, 3]
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 1


def test_nothing_to_join():
    nothing = np.empty(0, dtype=np.int32)
    for n in (0, 1, 3):
        assert joined(n, nothing, nothing).tolist() == list(range(n))


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
def test_what_is_no_edge_is_refused_and_nothing_joined(left, right, words):
    found = Forest(3)
    with pytest.raises(ValueError, match=words):
        found.join(np.array(left), np.array(right))
    assert found.labels().tolist() == [0, 1, 2]


def test_there_is_no_negative_number_of_nodes():
    with pytest.raises(ValueError, match="not -1"):
        Forest(-1)
