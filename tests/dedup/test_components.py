"""Components against a plain union-find, representatives against the stated order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages.dedup.components import find_components, told
from curation.stages.dedup.ties import METHODS, Ties, both_ways, join_ties, no_ties, strongest

NEAR = METHODS.index("near")


def ids(count: int) -> np.ndarray:
    return np.array([f"{n:032x}" for n in range(count)], dtype="S32")


def ties_of(pairs, strength=0.9) -> Ties:
    left, right = (np.array([p[side] for p in pairs], np.int32) for side in (0, 1))
    size = len(pairs)
    return Ties(left, right, np.full(size, strength, np.float32), np.full(size, NEAR, np.int8))


def union_find(count, pairs):
    parent = list(range(count))

    def root(x):
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
def test_equals_union_find_in_any_order(pairs, seed):
    rng = np.random.default_rng(seed)
    rank = rng.permutation(20)
    pairs = [p for p in pairs if p[0] != p[1]]
    found = find_components(ties_of(pairs), rank, "join")
    roots = union_find(20, pairs)
    for a in range(20):
        members = [m for m in range(20) if roots[m] == roots[a]]
        assert found.smallest[a] == min(members)
        assert found.representative[a] == min(members, key=lambda m: rank[m])
    shuffled = [pairs[i][:: rng.choice([1, -1])] for i in rng.permutation(len(pairs))]
    again = find_components(ties_of(shuffled), rank, "join")
    np.testing.assert_array_equal(again.smallest, found.smallest)
    np.testing.assert_array_equal(again.representative, found.representative)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=25),
    seed=st.integers(0, 1000),
)
def test_cut_chains_leave_stars(pairs, seed):
    """By falling rank, an image that nobody has taken takes all neighbours that nobody has taken."""
    rank = np.random.default_rng(seed).permutation(15)
    pairs = [p for p in pairs if p[0] != p[1]]
    found = find_components(ties_of(pairs), rank, "cut")
    near = {n: {b for a, b in [*pairs, *(p[::-1] for p in pairs)] if a == n} for n in range(15)}
    taken: dict[int, int] = {}
    for image in sorted(range(15), key=lambda n: rank[n]):
        if image not in taken:
            taken |= {other: image for other in [image, *near[image]] if other not in taken}
    assert found.representative.tolist() == [taken[n] for n in range(15)]
    for image, representative in taken.items():
        star = [n for n, own in taken.items() if own == representative]
        assert found.smallest[image] == min(star)
        assert image == representative or image in near[representative]


def test_a_chain_is_joined_or_cut():
    chain = ties_of([(0, 1), (1, 2), (2, 3), (3, 4)])
    rank = np.array([4, 0, 1, 2, 3])
    assert set(find_components(chain, rank, "join").representative) == {1}
    assert find_components(chain, rank, "cut").representative.tolist() == [1, 1, 1, 3, 3]


def test_weakest_link_is_what_holds_a_component_together():
    """Two triangles of strong ties and one weak bridge; a still weaker tie within a triangle."""
    strong = ties_of([(0, 1), (1, 2), (3, 4), (4, 5)], 0.95)
    weak = join_ties([ties_of([(0, 2)], 0.71), ties_of([(2, 3)], 0.75)])
    ties = join_ties([strong, weak])
    said = told(find_components(ties, np.arange(8), "join"), ties, ids(8))
    assert said["components"] == 3
    assert said["sizes"]["1"] == 2
    (largest,) = said["largest_components"]
    assert largest["images"] == 6
    link = largest["weakest_link"]
    assert link["images"] == [f"{n:032x}" for n in (2, 3)]
    assert (link["method"], link["similarity"]) == ("near", 0.75)


def test_strongest_tie_and_its_ties():
    ties = ties_of([(0, 1), (0, 2), (2, 1)])
    stronger = Ties(ties.left, ties.right, np.array([0.9, 0.9, 0.95], np.float32), ties.method)
    both = both_ways(join_ties([no_ties(), stronger]))
    found = strongest(both, 4, ids(4))
    assert [int(both.right[f]) if f >= 0 else None for f in found] == [1, 2, 1, None]
    sure = Ties(*(np.array([v]) for v in (0, 3, np.float32(0.5), np.int8(0))))
    both = both_ways(join_ties([stronger, sure]))
    assert both.right[strongest(both, 4, ids(4))[0]] == 3
