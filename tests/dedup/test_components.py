"""Components against a plain union-find, and representatives against the stated order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages.dedup.components import component_stats, find_components
from curation.stages.dedup.edges import (
    METHODS,
    Edges,
    best_edges,
    both_directions,
    concat_edges,
    no_edges,
)

NEAR = METHODS.index("near")


def ids(count: int) -> np.ndarray:
    return np.array([f"{n:032x}" for n in range(count)], dtype="S32")


def near_edges(pairs: Sequence[tuple[int, ...]], similarity: float = 0.9) -> Edges:
    left, right = (np.array([p[side] for p in pairs], np.int32) for side in (0, 1))
    size = len(pairs)
    return Edges(left, right, np.full(size, similarity, np.float32), np.full(size, NEAR, np.int8))


def union_find(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    parent = list(range(count))

    def root(x: int) -> int:
        while parent[x] != x:
            x = parent[x]
        return x

    for a, b in pairs:
        parent[root(a)] = root(b)
    return [root(x) for x in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30),
    seed=st.integers(0, 1000),
)
def test_equals_union_find_in_any_order(pairs: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = rng.permutation(20)
    pairs = [p for p in pairs if p[0] != p[1]]
    components = find_components(near_edges(pairs), rank, "join")
    roots = union_find(20, pairs)
    for a in range(20):
        members = [m for m in range(20) if roots[m] == roots[a]]
        assert components.smallest[a] == min(members)
        assert components.representative[a] == min(members, key=lambda m: rank[m])
    shuffled = [pairs[i][:: rng.choice([1, -1])] for i in rng.permutation(len(pairs))]
    same = find_components(near_edges(shuffled), rank, "join")
    np.testing.assert_array_equal(same.smallest, components.smallest)
    np.testing.assert_array_equal(same.representative, components.representative)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=25),
    seed=st.integers(0, 1000),
)
def test_cut_chains_equal_greedy_clustering(pairs: list[tuple[int, int]], seed: int) -> None:
    """From the lowest rank, an image without a representative represents itself and its neighbours."""
    rank = np.random.default_rng(seed).permutation(15)
    pairs = [p for p in pairs if p[0] != p[1]]
    components = find_components(near_edges(pairs), rank, "cut")
    neighbours = {
        n: {b for a, b in [*pairs, *(p[::-1] for p in pairs)] if a == n} for n in range(15)
    }
    expected: dict[int, int] = {}
    for image in sorted(range(15), key=lambda n: rank[n]):
        if image not in expected:
            group = [image, *neighbours[image]]
            expected |= {other: image for other in group if other not in expected}
    assert components.representative.tolist() == [expected[n] for n in range(15)]
    for image, representative in expected.items():
        group = [n for n, other in expected.items() if other == representative]
        assert components.smallest[image] == min(group)
        assert image == representative or image in neighbours[representative]


def test_a_chain_is_joined_or_cut() -> None:
    chain = near_edges([(0, 1), (1, 2), (2, 3), (3, 4)])
    rank = np.array([4, 0, 1, 2, 3])
    assert set(find_components(chain, rank, "join").representative) == {1}
    assert find_components(chain, rank, "cut").representative.tolist() == [1, 1, 1, 3, 3]


def test_the_weakest_link_holds_a_component_together() -> None:
    """Two triangles of strong edges, one weak bridge, and a still weaker edge within a triangle."""
    strong = near_edges([(0, 1), (1, 2), (3, 4), (4, 5)], 0.95)
    weak = concat_edges([near_edges([(0, 2)], 0.71), near_edges([(2, 3)], 0.75)])
    edges = concat_edges([strong, weak])
    stats = component_stats(find_components(edges, np.arange(8), "join"), edges, ids(8))
    assert stats["components"] == 3
    assert stats["sizes"]["1"] == 2
    (largest,) = stats["largest_components"]
    assert largest["images"] == 6
    link = largest["weakest_link"]
    assert link["images"] == [f"{n:032x}" for n in (2, 3)]
    assert (link["method"], link["similarity"]) == ("near", 0.75)


LINKS = st.tuples(
    *(st.integers(0, 7), st.integers(0, 7)),
    # The product of two vectors that were rounded to float16 may be more than 1.
    *(st.sampled_from([0.7, 0.9, 0.99995, 1.0, 1.0002, 1.001]), st.sampled_from(METHODS[1:])),
)


@settings(max_examples=60, deadline=None)
@given(links=st.lists(LINKS, max_size=25))
def test_the_weakest_link_is_the_last_that_joins_the_component(
    links: list[tuple[int, int, float, str]],
) -> None:
    links = [link for link in links if link[0] != link[1]]
    left, right = (np.array([link[end] for link in links], np.int32) for end in (0, 1))
    similarity = np.array([link[2] for link in links], np.float32)
    methods = np.array([METHODS.index(link[3]) for link in links], np.int8)
    edges = Edges(left, right, similarity, methods)
    stats = component_stats(find_components(edges, np.arange(8), "join"), edges, ids(8))
    strongest_first = sorted(links, key=lambda link: (METHODS.index(link[3]), -link[2]))
    whole = union_find(8, [link[:2] for link in links])
    for component in stats["largest_components"]:
        root = whole[int(component["component_id"], 16)]
        inside = [link for link in strongest_first if whole[link[0]] == root]
        joins = [
            n for n in range(1, len(inside) + 1) if components_of(inside[:n], root, whole) == 1
        ]
        *_, weakest, method = inside[joins[0] - 1]
        link = component["weakest_link"]
        assert (link["method"], link["similarity"]) == (method, weakest)
        ends = {int(image, 16) for image in link["images"]}
        assert any({a, b} == ends and (s, m) == (weakest, method) for a, b, s, m in inside)


def components_of(links: Sequence[tuple[int, int, float, str]], root: int, whole: list[int]) -> int:
    """Number of components that some links leave of the members of one."""
    roots = union_find(8, [link[:2] for link in links])
    return len({roots[n] for n in range(8) if whole[n] == root})


def test_the_best_edge_is_the_most_certain_then_the_most_similar() -> None:
    edges = near_edges([(0, 1), (0, 2), (2, 1)])
    similarity = np.array([0.9, 0.9, 0.95], np.float32)
    edges = Edges(edges.left, edges.right, similarity, edges.method)
    directed = both_directions(concat_edges([no_edges(), edges]))
    best = best_edges(directed, 4, ids(4))
    assert [int(directed.right[b]) if b >= 0 else None for b in best] == [1, 2, 1, None]
    certain = Edges(*(np.array([v]) for v in (0, 3, np.float32(0.5), np.int8(0))))
    directed = both_directions(concat_edges([edges, certain]))
    assert directed.right[best_edges(directed, 4, ids(4))[0]] == 3
