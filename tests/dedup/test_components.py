"""Components against a plain union-find, representatives against the stated order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.components import find_components
from curation.dedup.ties import (
    Ties,
    both_ways,
    join_ties,
    near_ties,
    no_ties,
    perceptual_ties,
    strongest,
)


def ids(count: int) -> np.ndarray:
    return np.array([f"{n:032x}" for n in range(count)], dtype="S32")


def ties_of(pairs, names) -> Ties:
    left, right = ([p[side] for p in pairs] for side in (0, 1))
    near = np.ones(len(pairs), np.int8)
    return Ties(names[left], names[right], np.full(len(pairs), 0.9, np.float32), near)


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
    names, rng = ids(20), np.random.default_rng(seed)
    pixels, captions = rng.integers(0, 4, 20), rng.integers(0, 3, 20)
    pairs = [p for p in pairs if p[0] != p[1]]
    found = find_components(names, ties_of(pairs, names) if pairs else no_ties(), pixels, captions)
    roots = union_find(20, pairs)
    for a in range(20):
        members = [m for m in range(20) if roots[m] == roots[a]]
        assert found.component_id[a] == names[min(members)]
        best = min(members, key=lambda m: (-pixels[m], -captions[m], names[m]))
        assert found.representative_id[a] == names[best]
    if pairs:
        shuffled = [pairs[i][:: rng.choice([1, -1])] for i in rng.permutation(len(pairs))]
        again = find_components(names, ties_of(shuffled, names), pixels, captions)
        np.testing.assert_array_equal(again.component_id, found.component_id)
        np.testing.assert_array_equal(again.representative_id, found.representative_id)


def test_perceptual_ties_equal_brute_force():
    rng = np.random.default_rng(0)
    names = ids(120)
    hashes = rng.integers(0, 256, (120, 32), dtype=np.uint8)
    for copy in range(100, 120):
        # A copy differs in 0 to 40 bits from its original.
        bits = np.unpackbits(hashes[copy - 100])
        bits[rng.choice(256, (copy - 100) * 2, replace=False)] ^= 1
        hashes[copy] = np.packbits(bits)
    bits = np.unpackbits(hashes, axis=1).astype(int)
    distance = (bits[:, None, :] != bits[None, :, :]).sum(-1)
    expected = {(names[a], names[b]) for a, b in np.argwhere(distance <= 31) if a < b}
    side = (names, hashes)
    found = perceptual_ties(side, side, 31)
    assert set(zip(found.left, found.right, strict=True)) == expected
    assert any(distance[a, b] == 30 for a, b in np.argwhere(distance <= 31))
    assert found.strength.min() >= 1 - 31 / 256
    assert not len(perceptual_ties(side, (names[:0], hashes[:0]), 31).left)


def test_near_threshold_is_inclusive_and_drops_the_image_itself():
    names = ids(3)
    similarity = np.array([0.96, 0.95999, 1.0], np.float32)
    found = near_ties(names[[0, 1, 2]], names[[1, 2, 2]], similarity, 0.96)
    assert found.left.tolist() == [names[0]]


def test_strongest_tie_and_its_ties():
    names = ids(4)
    pairs = [(0, 1), (0, 2), (2, 1)]
    ties = ties_of(pairs, names)
    stronger = Ties(ties.left, ties.right, np.array([0.9, 0.9, 0.95], np.float32), ties.method)
    both = both_ways(join_ties([no_ties(), stronger]))
    found = strongest(both, names)
    ends = [both.right[f] if f >= 0 else None for f in found]
    assert ends == [names[1], names[2], names[1], None]
