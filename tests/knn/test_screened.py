"""The bfloat16 screen keeps every true neighbour, and the search over it is exact."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from curation.algorithms.arrays import (
    device_memory,
    nearest_pairs,
    screen_choice,
    screened_products,
)
from curation.algorithms.arrays.device_memory import TileSizes
from curation.algorithms.knn import exact
from curation.algorithms.knn.exact import build_base, search

from .test_exact import assert_same, brute_force, names, unit


@pytest.fixture(autouse=True)
def always_and_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "SCREEN_FROM_PRODUCTS", 0)
    monkeypatch.setattr(exact, "SCREEN_WITH_FLOOR_FROM", 0)
    monkeypatch.setattr(screen_choice, "is_faster", lambda device="cpu": True)
    monkeypatch.setattr(nearest_pairs, "tile_sizes", lambda device, dim: TileSizes(33, 256))
    monkeypatch.setattr(device_memory, "GROUPS_PER_TILE", 16)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("k", [1, 3, 5, 64, 300, 5000])
@pytest.mark.parametrize("rows", [1, 63, 64, 65, 257, 1000])
def test_equals_brute_force(
    k: int, rows: int, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that stay on the device, and rows that are sent in tiles for each step of queries."""
    monkeypatch.setattr(nearest_pairs, "fits", lambda size, device: resident)
    rng = np.random.default_rng(rows)
    base, queries, ids = unit(rng, rows, 24), unit(rng, 70, 24), names(rng, rows)
    assert_same(search(queries, build_base(base, ids), k), brute_force(queries, base, ids, k))


@pytest.mark.parametrize("at_least", [-0.5, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("k", [1, 5, 200])
def test_a_floor_keeps_the_pairs_that_reach_it(k: int, at_least: float) -> None:
    rng = np.random.default_rng(3)
    base, ids = unit(rng, 900, 24), names(rng, 900)
    queries = np.concatenate([unit(rng, 60, 24), base[:10]])
    base = np.concatenate([base, -base[:5]]).astype(np.float16)
    ids = np.concatenate([ids, names(np.random.default_rng(4), 5)])
    all_pairs = brute_force(queries, base, ids, k)
    expected = [row for row in all_pairs if row[2] >= np.float32(at_least)]
    assert_same(search(queries, build_base(base, ids), k, at_least), expected)


def test_a_floor_spares_work() -> None:
    rng = np.random.default_rng(5)
    base, queries = unit(rng, 4000, 64), unit(rng, 50, 64)
    query, _ = nearest_pairs.candidate_pairs(queries, base, 10, 0.9)
    assert len(query) == 0


@pytest.mark.parametrize("crowd", [0, 3, 200, 600])
def test_the_best_are_ranked_where_many_reach_the_floor(
    crowd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crowd is in some tiles of 256 rows, and few reach the floor in the others."""
    rng = np.random.default_rng(6)
    base, ids = unit(rng, 1500, 24), names(rng, 1500)
    near = base[7].astype(np.float64) + 0.08 * rng.normal(size=(crowd, 24))
    base[400 : 400 + crowd] = near / np.linalg.norm(near, axis=1, keepdims=True)
    queries = np.concatenate([unit(rng, 40, 24), base[:10]])
    ranked: list[int] = []
    rank = screened_products._best

    def recorded(best: Tensor, scores: Tensor) -> Tensor:
        ranked.append(len(scores))
        return rank(best, scores)

    monkeypatch.setattr(screened_products, "_best", recorded)
    expected = [pair for pair in brute_force(queries, base, ids, 5) if pair[2] >= np.float32(0.8)]
    assert_same(search(queries, build_base(base, ids), 5, 0.8), expected)
    assert bool(ranked) == (crowd > 5)


def test_neighbours_closer_than_bfloat16_can_tell() -> None:
    """A thousand nearly equal vectors: their scores are equal to the fourth digit."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=32)
    crowd = centre + 0.004 * rng.normal(size=(1000, 32))
    crowd = (crowd / np.linalg.norm(crowd, axis=1, keepdims=True)).astype(np.float16)
    queries = np.concatenate([crowd[:40], -crowd[:5]])
    ids = names(rng, 1000)
    for k in (1, 10):
        candidates = search(queries, build_base(crowd, ids), k)
        assert_same(candidates, brute_force(queries, crowd, ids, k))


def test_screen_leaves_few_pairs() -> None:
    """A screen that keeps every pair would save nothing."""
    rng = np.random.default_rng(1)
    base, queries = unit(rng, 4000, 64), unit(rng, 50, 64)
    query, _ = nearest_pairs.candidate_pairs(queries, base, 10)
    assert len(query) < 50 * 20
    assert (np.diff(query) >= 0).all()
    assert np.bincount(query, minlength=50).min() >= 10


@pytest.mark.gpu
def test_cuda_keeps_every_neighbour() -> None:
    rng = np.random.default_rng(2)
    base, queries = unit(rng, 5000, 64), unit(rng, 100, 64)
    query, row = nearest_pairs.candidate_pairs(queries, base, 10, device="cuda")
    pairs = set(zip(query.tolist(), row.tolist(), strict=True))
    best = np.argsort(-(queries.astype(np.float64) @ base.T.astype(np.float64)), axis=1)[:, :10]
    assert {(q, r) for q, rows in enumerate(best.tolist()) for r in rows} <= pairs
