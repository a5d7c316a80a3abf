"""The order of pairs is that of a sort by three keys."""

from __future__ import annotations

import numpy as np
import pytest

from curation.algorithms.arrays.products import VALUES_PER_STEP, exact_similarity
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.knn.order import by_similarity


@pytest.mark.parametrize("values", [1, 3, 50, 10**9])
@pytest.mark.parametrize("queries", [1, 7, 2**32 - 1])
@pytest.mark.parametrize("pairs", [0, 1, 2, 3000])
def test_it_is_a_sort_by_three_keys(pairs: int, queries: int, values: int) -> None:
    """Few different similarities give long runs of ties."""
    rng = np.random.default_rng([pairs, queries, values])
    query = rng.integers(0, queries, pairs)
    similarity = (rng.integers(-values, values + 1, pairs) / values).astype(np.float32)
    similarity[rng.random(pairs) < 0.1] = -0.0
    ties = np.char.mod("%032x", rng.permutation(pairs)).astype("S32")
    expected = np.lexsort((ties, -similarity, query))
    np.testing.assert_array_equal(by_similarity(query, similarity, ties), expected)


def test_pairs_that_are_equal_stay_in_their_order() -> None:
    query, similarity = np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.5, 0.5], np.float32)
    ties = np.array([b"a", b"b", b"a", b"b"])
    assert by_similarity(query, similarity, ties).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_similarities_are_those_of_each_pair_by_itself(dtype: type) -> None:
    """More pairs than one step takes."""
    rng = np.random.default_rng(0)
    queries: Vectors = rng.normal(size=(50, 64)).astype(dtype)
    base: Vectors = rng.normal(size=(90, 64)).astype(dtype)
    pairs = VALUES_PER_STEP // 64 + 100
    query, row = rng.integers(0, 50, pairs), rng.integers(0, 90, pairs)
    similarity = exact_similarity(queries, base, query, row)
    for number in [*range(20), *range(pairs - 20, pairs)]:
        left, right = queries[query[number]], base[row[number]]
        alone = np.einsum("md,md->m", left[None].astype(np.float64), right[None].astype(np.float64))
        assert similarity[number] == alone.astype(np.float32)[0]
