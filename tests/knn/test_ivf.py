"""Inverted files against brute force within their lists, and the choice of the index."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.knn import ivf
from curation.algorithms.knn.choice import (
    EXACT_SEARCH_LIMIT,
    choose_search,
    default_nlist,
    rounded_size,
)
from curation.algorithms.knn.exact import build_base
from curation.algorithms.knn.ivf import Codebooks, Lists, assign_lists, build_index, search, train
from curation.algorithms.knn.params import IndexParams, SearchParams
from curation.errors import RecipeError

from .test_exact import names, unit


def trained(sample: np.ndarray, index: Literal["ivf_flat", "ivf_pq"]) -> Codebooks:
    return train(sample, index, nlist=20, subquantizers=4, seed=0)


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16))
    vectors = centres[rng.integers(0, 40, 3000)] + 0.4 * rng.normal(size=(3000, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:2900].astype(np.float16), vectors[2900:].astype(np.float16), names(rng, 2900)


def test_too_few_images_for_codes_are_not_blamed_on_the_lists() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(RecipeError, match=r"ivf_pq needs at least 256 .* Use index: exact") as few:
        train(unit(rng, 100, 8), "ivf_pq", nlist=20, subquantizers=4, seed=0)
    assert "nlist" not in str(few.value)
    with pytest.raises(RecipeError, match=r"nlist 300 needs at least 300 .* Lower nlist"):
        train(unit(rng, 280, 8), "ivf_pq", nlist=300, subquantizers=4, seed=0)


def test_the_largest_seed_trains(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    codebooks = train(world[0], "ivf_pq", nlist=20, subquantizers=4, seed=2**63 - 1)
    assert codebooks.products is not None and np.isfinite(codebooks.products).all()


@pytest.mark.parametrize(("nprobe", "k"), [(1, 1), (3, 5), (20, 50)])
def test_flat_equals_brute_force_within_the_probed_lists(
    world: tuple[np.ndarray, np.ndarray, np.ndarray],
    nprobe: int,
    k: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ivf, "QUERIES_AT_ONCE", 37)
    vectors, queries, ids = world
    codebooks = trained(vectors, "ivf_flat")
    base = build_base(vectors, ids)
    lists = assign_lists(base.vectors, codebooks)
    candidates = search(
        queries, build_index(base, lists, codebooks), SearchParams(nprobe=nprobe), k
    )
    scores = queries.astype(np.float64) @ codebooks.coarse.astype(np.float64).T
    probes = np.argsort(-scores, axis=1)[:, :nprobe]
    for number in range(len(queries)):
        rows = np.flatnonzero(np.isin(lists.list_ids, probes[number]))
        query = np.full(len(rows), number)
        similarity = exact_similarity(queries, base.vectors, query, rows)
        order = np.lexsort((base.ids[rows], -similarity))[:k]
        of_query = candidates.query == number
        assert candidates.ids[of_query].tolist() == base.ids[rows[order]].tolist()
        np.testing.assert_array_equal(candidates.similarity[of_query], similarity[order])


def test_shards_together_find_what_one_base_finds(
    world: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    vectors, queries, ids = world
    codebooks = trained(vectors, "ivf_flat")
    params = SearchParams(nprobe=4)

    def search_rows(rows: np.ndarray) -> set[tuple[int, bytes, float]]:
        base = build_base(vectors[rows], ids[rows])
        index = build_index(base, assign_lists(base.vectors, codebooks), codebooks)
        best = search(queries, index, params, 4)
        columns = best.query.tolist(), best.ids.tolist(), best.similarity.tolist()
        return set(zip(*columns, strict=True))

    rows = np.arange(len(vectors))
    in_shards = [search_rows(part) for part in np.array_split(rows, 3)]
    assert search_rows(rows) <= set().union(*in_shards)


def test_codes_find_the_same_vector(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    vectors, _, ids = world
    codebooks = trained(vectors, "ivf_pq")
    base = build_base(vectors, ids)
    lists = assign_lists(base.vectors, codebooks)
    assert lists.codes is not None
    assert lists.codes.shape == (len(base.vectors), 4)
    queries = base.vectors[::29]
    candidates = search(queries, build_index(base, lists, codebooks), SearchParams(nprobe=1), 1)
    assert (candidates.similarity > 0.999).mean() > 0.8


def test_empty_lists_and_few_vectors() -> None:
    rng = np.random.default_rng(1)
    vectors, ids = unit(rng, 3, 8), names(rng, 3)
    codebooks = Codebooks(unit(rng, 50, 8).astype(np.float32))
    base = build_base(vectors, ids)
    lists = build_index(base, assign_lists(base.vectors, codebooks), codebooks)
    candidates = search(unit(rng, 5, 8), lists, SearchParams(nprobe=50), 10)
    assert np.bincount(candidates.query).tolist() == [3] * 5
    empty = build_index(build_base(vectors[:0], ids[:0]), Lists(np.empty(0, np.int32)), codebooks)
    assert len(search(vectors, empty, SearchParams(nprobe=2), 3).query) == 0


@pytest.mark.parametrize(
    ("queries", "pool", "options", "index"),
    [
        (1000, 10_000, {}, "exact"),
        (0, 10_000, {"index": "ivf_pq"}, "exact"),
        (10, 10_000, {"index": "ivf_pq"}, "ivf_pq"),
        (10**7, 10**9, {}, "ivf_flat"),
        (10**7, 10**9, {"index": "exact"}, "exact"),
        # For few queries, assigning vectors to lists costs more than it saves.
        (2000, 10**9, {}, "exact"),
    ],
)
def test_the_choice_follows_the_cost_model(
    queries: int, pool: int, options: dict[str, Any], index: str
) -> None:
    params = IndexParams(**({} if options.get("index") == "exact" else {"nprobe": 8}) | options)
    assert choose_search(params, queries, pool, 1024).index == index


def test_auto_is_exact_up_to_its_bound() -> None:
    params = IndexParams(nprobe=8)
    assert choose_search(params, EXACT_SEARCH_LIMIT // 2**30, 2**20, 2**10).index == "exact"
    assert choose_search(params, EXACT_SEARCH_LIMIT // 2**30 + 1, 2**20, 2**10).index == "ivf_flat"


def test_the_number_of_lists_grows_in_steps() -> None:
    assert [rounded_size(n) for n in (1, 3, 4, 15, 16, 10**6)] == [1, 1, 4, 4, 16, 4**9]
    assert default_nlist(10**6) == 4000
    # An index needs a vector to train each list on.
    for pool in range(1, 100):
        assert choose_search(IndexParams(index="ivf_flat"), 1, pool, 8).nlist <= pool
