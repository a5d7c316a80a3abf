"""Inverted files against brute force within their lists, and the choice between them and exact."""

from __future__ import annotations

import numpy as np
import pytest

from curation.algorithms.knn.choice import EXACT, choose, lists_for, scale_of
from curation.algorithms.knn.exact import build_base, exact_similarity
from curation.algorithms.knn.ivf import Codebooks, Lists, fill, opened, search, train
from curation.algorithms.knn.params import IndexParams, SearchParams

from .test_exact import names, unit


def trained(sample, index):
    return train(sample, index, nlist=20, subquantizers=4, seed=0)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(40, 16))
    vectors = middles[rng.integers(0, 40, 3000)] + 0.4 * rng.normal(size=(3000, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:2900].astype(np.float16), vectors[2900:].astype(np.float16), names(rng, 2900)


@pytest.mark.parametrize(("nprobe", "k"), [(1, 1), (3, 5), (20, 50)])
def test_flat_equals_brute_force_within_the_probed_lists(world, nprobe, k, monkeypatch):
    monkeypatch.setattr("curation.algorithms.knn.ivf.QUERIES", 37)
    vectors, queries, ids = world
    books = trained(vectors, "ivf_flat")
    base = build_base(vectors, ids)
    lists = fill(base.vectors, books)
    found = search(queries, opened(base, lists, books), SearchParams(nprobe=nprobe), k)
    scores = queries.astype(np.float64) @ books.coarse.astype(np.float64).T
    probes = np.argsort(-scores, axis=1)[:, :nprobe]
    for number in range(len(queries)):
        rows = np.flatnonzero(np.isin(lists.own, probes[number]))
        pair = np.full(len(rows), number)
        similarity = exact_similarity(queries, base.vectors, pair, rows)
        order = np.lexsort((base.ids[rows], -similarity))[:k]
        own = found.query == number
        assert found.ids[own].tolist() == base.ids[rows[order]].tolist()
        np.testing.assert_array_equal(found.similarity[own], similarity[order])


def test_shards_find_what_the_whole_finds(world):
    vectors, queries, ids = world
    books = trained(vectors, "ivf_flat")
    params = SearchParams(nprobe=4)

    def found(rows):
        base = build_base(vectors[rows], ids[rows])
        got = search(queries, opened(base, fill(base.vectors, books), books), params, 4)
        return set(zip(got.query.tolist(), got.ids.tolist(), got.similarity.tolist(), strict=True))

    parts = np.array_split(np.arange(len(vectors)), 3)
    assert found(np.arange(len(vectors))) <= set().union(*(found(part) for part in parts))


def test_codes_tell_a_vector_from_others(world):
    vectors, _, ids = world
    books = trained(vectors, "ivf_pq")
    base = build_base(vectors, ids)
    lists = fill(base.vectors, books)
    assert lists.codes is not None
    assert lists.codes.shape == (len(base.vectors), 4)
    some = base.vectors[::29]
    got = search(some, opened(base, lists, books), SearchParams(nprobe=1), 1)
    assert (got.similarity > 0.999).mean() > 0.8


def test_empty_lists_and_few_vectors():
    rng = np.random.default_rng(1)
    vectors, ids = unit(rng, 3, 8), names(rng, 3)
    books = Codebooks(unit(rng, 50, 8).astype(np.float32))
    base = build_base(vectors, ids)
    lists = opened(base, fill(base.vectors, books), books)
    got = search(unit(rng, 5, 8), lists, SearchParams(nprobe=50), 10)
    assert np.bincount(got.query).tolist() == [3] * 5
    nothing = opened(build_base(vectors[:0], ids[:0]), Lists(np.empty(0, np.int32)), books)
    assert len(search(vectors, nothing, SearchParams(nprobe=2), 3).query) == 0


@pytest.mark.parametrize(
    ("k", "queries", "pool", "more", "index"),
    [
        (4, 1000, 10_000, {}, "exact"),
        (4, 0, 10_000, {"index": "ivf_pq"}, "exact"),
        (0, 10, 10_000, {"index": "ivf_pq"}, "exact"),
        (4, 10, 10_000, {"index": "ivf_pq"}, "ivf_pq"),
        (4, 10**7, 10**9, {}, "ivf_flat"),
        (4, 10**7, 10**9, {"index": "exact"}, "exact"),
        # Filling lists for few queries costs more than it saves.
        (4, 2000, 10**9, {}, "exact"),
    ],
)
def test_choice(k, queries, pool, more, index):
    params = IndexParams(**{"nprobe": 8, "subquantizers": 4} | more)
    assert choose(params, k, queries, pool, 1024).index == index


def test_auto_is_exact_up_to_its_bound():
    params = IndexParams(nprobe=8)
    assert choose(params, 4, EXACT // 2**30, 2**20, 2**10).index == "exact"
    assert choose(params, 4, EXACT // 2**30 + 1, 2**20, 2**10).index == "ivf_flat"


def test_lists_grow_with_the_pool_in_steps():
    assert [scale_of(n) for n in (1, 3, 4, 15, 16, 10**6)] == [1, 1, 4, 4, 16, 4**9]
    assert lists_for(10**6) == 4000
