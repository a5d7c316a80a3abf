"""Searches over vectors that rounding cannot tell apart: exact, and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays import device_memory, nearest_pairs, screen_choice
from curation.algorithms.arrays import screened_products as screened
from curation.algorithms.arrays.crowded import nearest_rows
from curation.algorithms.arrays.device_memory import TileSizes
from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.arrays.vectors import Ids, Vectors
from curation.algorithms.knn import exact, ivf
from curation.algorithms.knn.cell_shares import cell_tasks, share_of
from curation.algorithms.knn.exact import build_base, merge, search
from curation.algorithms.knn.params import SearchParams

from .test_exact import assert_same, brute_force, names

DIM = 24


def units(vectors: npt.NDArray[np.float64]) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float16)


def crowd(kind: str, rows: int) -> Vectors:
    """Vectors that are hard to tell apart."""
    rng = np.random.default_rng(rows)
    centre = rng.normal(size=DIM)
    if kind == "equal":
        return np.repeat(units(centre[None]), rows, axis=0)
    if kind == "one bit":
        # Neighbours of float16: each differs from the centre by a bit of some numbers.
        vectors = np.repeat(units(centre[None]), rows, axis=0)
        flips = rng.integers(0, 2, vectors.shape, dtype=np.uint16)
        return (vectors.view(np.uint16) ^ flips).view(np.float16)
    if kind == "clusters":
        centres = rng.normal(size=(3, DIM))
        return units(centres[rng.integers(0, 3, rows)] + 1e-3 * rng.normal(size=(rows, DIM)))
    if kind == "zeros":
        vectors = units(rng.normal(size=(rows, DIM)))
        vectors[::2] = 0
        return vectors
    # All at the same similarity to the query, which is the first axis.
    vectors = rng.normal(size=(rows, DIM))
    vectors[:, 0] = 0
    vectors = 0.5 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:, 0] = 0.75
    return np.asarray(vectors, np.float16)


KINDS = ("equal", "one bit", "clusters", "zeros", "tied")


def queries_of(base: Vectors) -> Vectors:
    axis = np.zeros((1, DIM), np.float16)
    axis[0, 0] = 1
    return np.concatenate([base[:3], axis, -base[:1], np.zeros((1, DIM), np.float16)])


@pytest.fixture(params=["float32", "bfloat16"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find candidates, whatever this processor has."""
    screens = request.param == "bfloat16"
    for limit in ("SCREEN_FROM_PRODUCTS", "SCREEN_WITH_FLOOR_FROM"):
        monkeypatch.setattr(exact, limit, 0 if screens else 2**60)
    monkeypatch.setattr(screen_choice, "is_faster", lambda device="cpu": True)
    monkeypatch.setattr(nearest_pairs, "tile_sizes", lambda device, dim: TileSizes(1024, 256))
    monkeypatch.setattr(device_memory, "GROUPS_PER_TILE", 16)
    return str(request.param)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 100])
def test_search_equals_brute_force(arithmetic: str, kind: str, k: int) -> None:
    base = crowd(kind, 1500)
    ids = names(np.random.default_rng(0), len(base))
    queries = queries_of(base)
    expected = brute_force(queries, base, ids, k)
    assert_same(search(queries, build_base(base, ids), k), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cut_of_the_base_makes_no_difference(arithmetic: str, kind: str) -> None:
    base, k = crowd(kind, 700), 9
    ids = names(np.random.default_rng(1), len(base))
    queries, order = queries_of(base), np.random.default_rng(2).permutation(len(base))
    parts = [
        search(queries, build_base(base[rows], ids[rows]), k) for rows in np.array_split(order, 6)
    ]
    assert_same(merge(parts, k), brute_force(queries, base, ids, k))


@pytest.mark.parametrize("at_least", [0.5, 0.7495, 0.75, 0.7505])
def test_a_floor_among_ties(arithmetic: str, at_least: float) -> None:
    base = crowd("tied", 1500)
    ids = names(np.random.default_rng(0), len(base))
    queries = queries_of(base)
    expected = [row for row in brute_force(queries, base, ids, 20) if row[2] >= at_least]
    assert_same(search(queries, build_base(base, ids), 20, at_least), expected)


def test_hundreds_of_ties_are_all_candidates(arithmetic: str) -> None:
    """As long as there are not too many, the screen itself keeps every one."""
    base = crowd("tied", 600)
    query, row = nearest_pairs.candidate_pairs(queries_of(base)[3:4], base, 5)
    similarity = exact_similarity(
        queries_of(base)[3:4], base, np.zeros(600, np.int64), np.arange(600)
    )
    kth = np.sort(similarity)[-5]
    assert set(np.flatnonzero(similarity >= kth).tolist()) <= set(row.tolist())
    assert not query.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_screen_holds_few_pairs(kind: str) -> None:
    """A scan gives up queries with too many candidates; it does not list them all."""
    base = crowd(kind, 20_000)
    rows, kind_of = torch.from_numpy(base), torch.bfloat16
    tiles = [screened.Tile.of(rows[s : s + 1024], kind_of, 64) for s in range(0, len(rows), 1024)]
    queries = screened.RoundedVectors.of(rows[:50], kind_of)
    result = screened.scan(queries, tiles, 10)
    assert len(result.query) <= 50 * screened.most_pairs(10)
    assert not set(result.query.tolist()) & set(torch.nonzero(result.crowded)[:, 0].tolist())


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 3000),
    k=st.integers(1, 40),
    at_least=st.sampled_from([-2.0, 0.0, 0.75, 0.9999, 1.0]),
    seed=st.integers(0, 99),
)
def test_nearest_rows_are_those_of_a_sort(
    kind: str, rows: int, k: int, at_least: float, seed: int
) -> None:
    base = crowd(kind, rows)
    queries = queries_of(base)
    order = np.random.default_rng(seed).permutation(rows)
    query, row = nearest_rows(queries, base, order, k, at_least)
    for number in range(len(queries)):
        pairs = np.full(rows, number), np.arange(rows)
        similarity = exact_similarity(queries, base, *pairs)[order]
        best = order[np.lexsort((np.arange(rows), -similarity))]
        expected = [r for r in best[:k].tolist() if similarity[order == r][0] >= at_least]
        assert sorted(row[query == number].tolist()) == sorted(expected)


def probed_truth(queries: Vectors, index: ivf.IvfIndex, lists: Any, ids: Ids, k: int) -> Any:
    base = index.base
    scores = queries.astype(np.float32) @ index.codebooks.coarse.T
    probed = np.argsort(-scores, axis=1)[:, :2]
    for number, row in enumerate(queries):
        inside = np.isin(lists.list_ids, probed[number])
        rows = np.concatenate(
            [
                np.arange(base.start[g], base.start[g] + base.count[g])
                for g in np.flatnonzero(inside)
            ]
        )
        group = np.repeat(np.arange(len(base.count)), base.count)[rows]
        for _, image, similarity in brute_force(row[None], base.vectors[group], base.ids[rows], k):
            yield number, image, similarity


def test_an_inverted_file_is_exact_within_its_lists() -> None:
    rng = np.random.default_rng(3)
    base = np.concatenate([crowd("clusters", 900), units(rng.normal(size=(300, DIM)))])
    ids, k = names(rng, len(base)), 6
    codebooks = ivf.Codebooks(ivf.train_coarse(base, 5, seed=0))
    grouped = build_base(base, ids)
    lists = ivf.assign_lists(grouped.vectors, codebooks)
    index = ivf.build_index(grouped, lists, codebooks)
    queries = base[:20]
    candidates = ivf.search(queries, index, SearchParams(nprobe=2), k)
    assert_same(candidates, list(probed_truth(queries, index, lists, ids, k)))


def joined(tasks: Any, cells: npt.NDArray[np.int32], ids: Ids) -> Iterator[tuple[int, int, int]]:
    """Yield (cell, query, base) of every pair that some task compares."""
    sent: dict[int, set[int]] = {task: set() for task in range(tasks.count)}
    first, shared = tasks.of_cells(cells)
    for row in range(len(ids)):
        if not shared[row].any():
            for key in first[row].tolist():
                sent[key].add(row)
    several = np.flatnonzero(shared.any(axis=1))
    for row, key in zip(*tasks.of_shared(ids[several], cells[several]), strict=True):
        assert int(several[row]) not in sent[int(key)]
        sent[int(key)].add(int(several[row]))
    for task, rows in sent.items():
        group, number, left, right = tasks.part(task)
        start, end = tasks.starts[group : group + 2]
        share = {row: int(share_of(ids[row : row + 1], number)[0]) for row in rows}
        for cell in range(start, end):
            inside = [row for row in rows if cell in cells[row]]
            yield from (
                (cell, a, b)
                for a in inside
                for b in inside
                if share[a] == left and share[b] == right
            )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    limit=st.integers(2, 20),
    crowded=st.floats(0, 1),
    cut=st.lists(st.integers(1, 5), max_size=3, unique=True),
)
def test_shares_compare_every_pair_of_a_cell_once(
    seed: int, limit: int, crowded: float, cut: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    ids = names(rng, 24)
    order = np.argsort(rng.random((24, 6)), axis=1)[:, :2].astype(np.int32)
    cells = np.where(rng.random((24, 1)) < crowded, np.array([[2, 5]], np.int32), order)
    counts = np.bincount(cells.ravel(), minlength=6)
    tasks = cell_tasks([0, *sorted(cut), 6], counts, limit)
    pairs = list(joined(tasks, cells, ids))
    expected = [
        (cell, a, b)
        for cell in range(6)
        for a in range(24)
        for b in range(24)
        if cell in cells[a] and cell in cells[b]
    ]
    assert sorted(pairs) == expected
    # A task holds no more than the limit, but for how shares differ in size.
    for task in range(tasks.count):
        group, number, *_ = tasks.part(task)
        start, end = tasks.starts[group : group + 2]
        assert counts[start:end].sum() <= limit if number == 1 else end - start == 1
