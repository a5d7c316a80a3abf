"""Even shares of a target against brute force, which hands out one image at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.kmeans import balance
from curation.algorithms.kmeans.balance import (
    even_shares,
    even_shares_by_parent,
    even_shares_in_blocks,
    sum_by_parent,
)


def one_at_a_time(sizes: Sequence[int], target: int, keys: np.ndarray) -> np.ndarray:
    """Take images one by one, each from the cluster that gave fewest; ties go to the smallest key."""
    shares = np.zeros(len(sizes), dtype=np.int64)
    while shares.sum() < min(target, sum(sizes)):
        not_empty = [i for i in range(len(sizes)) if shares[i] < sizes[i]]
        shares[min(not_empty, key=lambda i: (shares[i], keys[i]))] += 1
    return shares


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    target=st.integers(0, 60),
    seed=st.integers(0, 2**31),
)
def test_equals_handing_out_one_at_a_time(sizes: list[int], target: int, seed: int) -> None:
    keys = np.random.default_rng(seed).permutation(len(sizes)).astype(np.uint64)
    got = even_shares(np.array(sizes, dtype=np.int64), target, keys)
    np.testing.assert_array_equal(got, one_at_a_time(sizes, target, keys))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_parents_are_independent_of_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents, children = int(rng.integers(1, 6)), int(rng.integers(1, 30))
    parent = rng.integers(0, parents, children)
    sizes = rng.integers(0, 20, children)
    targets = rng.integers(0, 40, parents)
    keys = rng.permutation(children).astype(np.uint64)
    got = even_shares_by_parent(sizes, parent, targets, keys)
    for number in range(parents):
        children_of = parent == number
        if children_of.any():
            alone = even_shares(sizes[children_of], int(targets[number]), keys[children_of])
            np.testing.assert_array_equal(got[children_of], alone)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**31), at_once=st.integers(1, 12))
def test_blocks_change_nothing(seed: int, at_once: int) -> None:
    """Also with parents that have no children, and with more children than are taken at once."""
    rng = np.random.default_rng(seed)
    parents, children = int(rng.integers(1, 8)), int(rng.integers(0, 40))
    parent = rng.integers(0, parents, children).astype(np.int32)
    sizes, targets = rng.integers(0, 20, children), rng.integers(0, 60, parents)
    keys = rng.permutation(children).astype(np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(balance, "CLUSTERS_AT_ONCE", at_once)
        got = even_shares_in_blocks(sizes, parent, targets, lambda rows: keys[rows])
        sums = sum_by_parent(sizes, parent, parents)
    expected = even_shares_by_parent(sizes, parent.astype(np.int64), targets, keys)
    np.testing.assert_array_equal(got, expected)
    assert sums.tolist() == [int(sizes[parent == number].sum()) for number in range(parents)]


def test_shares_computed_by_hand() -> None:
    """Of sizes 1, 5 and 100, a target of 20 takes 1 + 5 + 14, and one of 10 takes 1 + 5 + 4 or 1 +
    4 + 5, which the keys decide."""
    sizes = np.array([1, 5, 100])
    keys = np.array([0, 1, 2], dtype=np.uint64)
    assert even_shares(sizes, 20, keys).tolist() == [1, 5, 14]
    assert even_shares(sizes, 10, keys).tolist() == [1, 5, 4]
    assert even_shares(sizes, 10, keys[::-1].copy()).tolist() == [1, 4, 5]
    assert even_shares(sizes, 1000, keys).tolist() == [1, 5, 100]
    assert even_shares(sizes, 0, keys).tolist() == [0, 0, 0]
