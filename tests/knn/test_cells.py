"""The joins by cells and by blocks against brute force; reuse, growth and recall."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.algorithms.arrays import screen_choice
from curation.algorithms.knn import blocks, cells, exact, pair_merge, routing
from curation.algorithms.knn.blocks import blocks_of, search_blocks
from curation.algorithms.knn.cells import cell_groups, search_cells
from curation.algorithms.knn.choice import JoinChoice, choose_join
from curation.algorithms.knn.codebooks import codebooks_batch
from curation.algorithms.knn.ivf import Codebooks, train_coarse
from curation.algorithms.knn.pair_merge import merged_pairs
from curation.algorithms.knn.pairs import RolePairs
from curation.algorithms.knn.recall import JoinRecall
from curation.engine.context import Context
from curation.engine.parallel import InProcess, Parallel
from curation.engine.spark_workers import SparkWorkers
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.dedup.params import Near
from curation.store.fragment import Fragment
from curation.store.store import Store

from ..tables import VectorParts, commit_vectors, run_step
from ..workers import Recording

Pairs = dict[tuple[str, ...], float | np.float32]
"""Similarity by roles and images of query and base."""

DIM, K = 24, 5
OPTIONS = {"k": K, "floor": 0.5, "spread": 3}
ROLE_PAIRS = (("pool", "pool"), ("held_out", "pool"))
RECIPE = {
    "name": "cells",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
    ],
}


def planted(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors of which every third is near the one before it."""
    vectors = rng.normal(size=(count, DIM))
    vectors[2::3] = vectors[1::3][: len(vectors[2::3])] + 0.15 * rng.normal(
        size=(len(vectors[2::3]), DIM)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16)


def names(first: int, count: int) -> np.ndarray:
    # The first digits are spread evenly, as those of digests are.
    return np.array([f"{(n * 37) % 256:02x}{n:030x}" for n in range(first, first + count)], "S32")


@pytest.fixture
def world() -> VectorParts:
    rng = np.random.default_rng(0)
    pool = planted(rng, 900)
    pool[890] = pool[3]
    parts = {f"web-{n}": (names(300 * n, 300), pool[300 * n : 300 * n + 300]) for n in range(3)}
    test = pool[:40].astype(np.float32) + 0.05 * rng.normal(size=(40, DIM))
    test = (test / np.linalg.norm(test, axis=1, keepdims=True)).astype(np.float16)
    parts["test-0"] = (names(5000, 40), test)
    # One image is in two fragments of the pool.
    parts["web-1"][0][0] = parts["web-0"][0][0]
    parts["web-1"][1][0] = parts["web-0"][1][0]
    return parts


def context_of(store: Store, parallel: Parallel | None = None) -> Context:
    return Context(store, parallel or InProcess(), "joins", None)


def by_role(store: Store, world: VectorParts) -> dict[str, dict[str, Fragment]]:
    fragments = open_table(store, "embeddings.semantic").fragments
    pool = {name: fragments[name] for name in world if name.startswith("web")}
    return {"pool": pool, "held_out": {"test-0": fragments["test-0"]}}


@pytest.fixture
def store(tmp_path: Path, world: VectorParts) -> Store:
    store = Store(tmp_path)
    commit_vectors(store, world)
    return store


def rows_of(pairs: Iterable[tuple[str, str, pa.Table]]) -> Pairs:
    return {
        (a, b, r["query_id"], r["image_id"]): r["similarity"]
        for a, b, table in pairs
        for r in table.to_pylist()
    }


def join_by_cells(
    roles: Mapping[str, Mapping[str, Fragment]],
    options: Mapping[str, float],
    codebooks: Fragment,
    context: Context,
) -> list[tuple[str, str, pa.Table]]:
    searched = search_cells(roles, ROLE_PAIRS, options, codebooks, context)
    return list(merged_pairs(searched, ROLE_PAIRS, K, context))


def join_by_blocks(
    roles: Mapping[str, Mapping[str, Fragment]], context: Context, role_pairs: RolePairs
) -> Pairs:
    searched = search_blocks(roles, role_pairs, OPTIONS, context, "blocks")
    return rows_of(merged_pairs(searched, role_pairs, K, context))


def truth(world: VectorParts, k: int = K, floor: float = 0.5) -> Pairs:
    """The k nearest images of each image, by brute force in float64."""
    pool = {i: v for n in world if n.startswith("web") for i, v in zip(*world[n], strict=True)}
    base = np.array(sorted(pool))
    matrix = np.stack([pool[i] for i in base.tolist()]).astype(np.float64)
    pairs: Pairs = {}
    for role, queries in (("pool", pool), ("held_out", dict(zip(*world["test-0"], strict=True)))):
        for query, vector in queries.items():
            similarity = (matrix @ vector.astype(np.float64)).astype(np.float32)
            order = np.lexsort((base, -similarity))
            near = [n for n in order if base[n] != query or role != "pool"][:k]
            pairs |= {
                (role, "pool", query.decode(), base[n].decode()): similarity[n]
                for n in near
                if similarity[n] >= floor
            }
    return pairs


def codebooks_of(world: VectorParts, count: int, context: Context) -> Fragment:
    vectors = np.concatenate([world[n][1] for n in world if n.startswith("web")])
    trained = Codebooks(train_coarse(vectors, count, 0))
    context.save_state("cells", count, codebooks_batch(trained))
    codebooks = context.load_state("cells", count)
    assert codebooks is not None
    return codebooks


@pytest.mark.parametrize("rows", [1000, 300, 1])
def test_blocks_equal_brute_force(
    store: Store, world: VectorParts, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "blocks_of", lambda fragments: blocks_of(fragments, rows))
    joined = join_by_blocks(by_role(store, world), context_of(store), ROLE_PAIRS)
    assert joined == truth(world)


def test_fragments_of_which_no_row_has_a_vector_join_nothing(
    tmp_path: Path, world: VectorParts
) -> None:
    """As when no picture of a fragment could be fetched."""
    parts = dict(world)
    for number, name in enumerate(("web-3", "web-4")):
        parts[name] = names(6000 + number, 1), np.full((1, DIM), np.nan, np.float16)
    store = Store(tmp_path)
    commit_vectors(store, parts)
    roles, context = by_role(store, parts), context_of(store)
    # Each vector is in all cells, so that the join is exact.
    codebooks = codebooks_of(world, 8, context)
    searched = search_cells(roles, ROLE_PAIRS, OPTIONS | {"spread": 8}, codebooks, context)
    assert rows_of(merged_pairs(searched, ROLE_PAIRS, K, context)) == truth(world)
    assert join_by_blocks(roles, context, ROLE_PAIRS) == truth(world)
    alone = {"pool": {name: roles["pool"][name] for name in ("web-3", "web-4")}}
    searched = search_cells(alone, ROLE_PAIRS, OPTIONS, codebooks, context)
    assert rows_of(merged_pairs(searched, ROLE_PAIRS, K, context)) == {}


def test_a_later_fragment_computes_only_its_own_pairs(
    store: Store, world: VectorParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "blocks_of", lambda fragments: blocks_of(fragments, 300))
    roles = by_role(store, world)
    early = {"pool": {n: roles["pool"][n] for n in ("web-0", "web-1")}}
    pool_pairs = ROLE_PAIRS[:1]
    join_by_blocks(early, context_of(store), pool_pairs)
    recording = Recording()
    later = join_by_blocks(roles, context_of(store, recording), pool_pairs)
    assert recording.mapped.count("blocks pool-pool") == 9 - 4
    assert later == {pair: s for pair, s in truth(world).items() if pair[0] == "pool"}


def test_one_cell_is_exact_and_more_cells_miss_little(
    store: Store, world: VectorParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "BYTES_PER_GROUP", 2**14)
    context, expected = context_of(store), truth(world)
    one = codebooks_of(world, 1, context)
    assert rows_of(join_by_cells(by_role(store, world), OPTIONS, one, context)) == expected
    several = codebooks_of(world, 16, context)
    joined = rows_of(join_by_cells(by_role(store, world), OPTIONS, several, context))
    # Similarities are exact, and near pairs are found.
    same = {pair: s for pair, s in joined.items() if pair in expected}
    assert all(expected[pair] == similarity for pair, similarity in same.items())
    near = {pair for pair, similarity in expected.items() if similarity >= 0.9}
    assert len(near & set(joined)) / len(near) > 0.97
    narrow = OPTIONS | {"spread": 1}
    one_cell_each = rows_of(join_by_cells(by_role(store, world), narrow, several, context))
    assert len(near & set(one_cell_each)) < len(near & set(joined))


@pytest.mark.parametrize("screens", [True, False])
def test_small_cells_are_screened_too_where_torch_is_there(
    screens: bool, store: Store, world: VectorParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def is_faster(device: str) -> bool:
        asked.append(device)
        return True

    exact.load_screen(exact.SCREEN_FROM_PRODUCTS)
    monkeypatch.setattr(exact, "SCREEN_WITH_FLOOR_FROM", 1 if screens else 2**60)
    monkeypatch.setattr(screen_choice, "is_faster", is_faster)
    context = context_of(store)
    one = codebooks_of(world, 1, context)
    joined = rows_of(join_by_cells(by_role(store, world), OPTIONS, one, context))
    assert joined == truth(world)
    assert bool(asked) == screens


def test_torch_is_imported_for_much_work_alone(root: Path) -> None:
    code = """
import sys
from curation.algorithms.knn import exact
exact.load_screen(exact.SCREEN_FROM_PRODUCTS - 1)
before = "torch" in sys.modules
exact.load_screen(exact.SCREEN_FROM_PRODUCTS)
print(before, "torch" in sys.modules)
"""
    run = [sys.executable, "-P", "-c", code]
    environment = os.environ | {"PYTHONPATH": str(root)}
    answer = subprocess.run(run, env=environment, check=True, capture_output=True, text=True)
    assert answer.stdout.split() == ["False", "True"]


def test_cells_do_not_depend_on_how_the_pool_is_split(
    store: Store, world: VectorParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(store)
    joined = rows_of(
        join_by_cells(by_role(store, world), OPTIONS, codebooks_of(world, 16, context), context)
    )
    ids, vectors = (np.concatenate([world[f"web-{n}"][p] for n in range(3)]) for p in (0, 1))
    order = np.random.default_rng(1).permutation(len(ids))
    other_world = {"web-0": (ids[order[:700]], vectors[order[:700]])}
    other_world |= {"web-1": (ids[order[700:]], vectors[order[700:]]), "test-0": world["test-0"]}
    other_store = Store(tmp_path / "other")
    commit_vectors(other_store, other_world)
    monkeypatch.setattr(cells, "BYTES_PER_GROUP", 2**14)
    monkeypatch.setattr(routing, "ROWS_PER_TASK", 100)
    second = context_of(other_store)
    codebooks = codebooks_of(world, 16, second)
    roles = by_role(other_store, other_world)
    assert rows_of(join_by_cells(roles, OPTIONS, codebooks, second)) == joined


def test_recall_is_that_of_brute_force(store: Store, world: VectorParts) -> None:
    context, expected = context_of(store), truth(world)
    pool = by_role(store, world)["pool"]
    recall = JoinRecall("pool", pool, context)
    recall.sample_queries(10_000, seed=0)
    narrow = OPTIONS | {"spread": 1}
    codebooks = codebooks_of(world, 16, context)
    pairs = join_by_cells(by_role(store, world), narrow, codebooks, context)
    pairs_found = rows_of(pairs)
    pool_pairs = [table for a, b, table in pairs if a == b == "pool"]
    stats = recall.measure(narrow, pool_pairs)
    true_pairs = {pair for pair in expected if pair[0] == "pool"}
    assert stats["recall_queries"] == 899
    assert stats["recall"] == pytest.approx(len(true_pairs & set(pairs_found)) / len(true_pairs))
    near = {pair for pair in true_pairs if expected[pair] >= 0.9}
    assert stats["recall_from"]["0.9"] == pytest.approx(len(near & set(pairs_found)) / len(near))
    assert stats["recall_from"]["0.9"] > stats["recall"]


def test_groups_cover_all_cells() -> None:
    assert cell_groups(10, 1.0) == (0, 10)
    starts = cell_groups(1000, 2.0**33)
    assert starts[0] == 0
    assert starts[-1] == 1000
    assert len(starts) == 2**33 // cells.BYTES_PER_GROUP + 1
    assert cell_groups(3, 2.0**40) == (0, 1, 2, 3)


def test_auto_joins_large_pools_by_cells() -> None:
    near = Near()
    assert choose_join(near, 100_000, 256).join == "exact"
    large = choose_join(near, 3_000_000, 256)
    assert large.join == "cells"
    assert large.by_cells < large.exact / 50
    assert choose_join(Near(join="exact"), 3_000_000, 256).join == "exact"
    assert choose_join(Near(join="cells"), 100, 256).join == "cells"


@pytest.mark.parametrize("where", ["in process", "spark"])
def test_the_stage_writes_what_brute_force_finds(
    store: Store,
    world: VectorParts,
    where: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With each vector in every cell the stage is exact. Workers write several fragments."""
    monkeypatch.setattr(pair_merge, "PAIRS_PER_MERGE", 3_000)
    monkeypatch.setattr(cells, "BYTES_PER_GROUP", 2**16)
    monkeypatch.setattr(
        "curation.stages.neighbours.stage.choose_join", lambda *_: JoinChoice("cells", 9, 0, 0, 0)
    )
    parallel = (
        InProcess()
        if where == "in process"
        else SparkWorkers(lambda: request.getfixturevalue("spark").sparkContext)
    )
    near = {"encoder": "semantic", "k": K, "floor": 0.5, "at_least": 0.9, "spread": 9}
    spec = RECIPE | {"dedup": {"near": near, "perceptual": None, "verify": None}}
    step = {s.name: s for s in plan(parse_recipe(spec))}["neighbours"]
    run_step(step, store, parallel)
    table = open_table(store, "neighbours")
    assert len(table.fragments) > 3
    rows = table.read().to_pylist()
    joined = {
        tuple(r[name] for name in ("role_a", "role_b", "image_a", "image_b")): r["similarity"]
        for r in rows
    }
    assert joined == truth(world)
    ranked: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for r in rows:
        ranked.setdefault((r["role_a"], r["image_a"]), []).append((r["rank"], -r["similarity"]))
    for ranks in ranked.values():
        assert [rank for rank, _ in sorted(ranks)] == list(range(1, len(ranks) + 1))
        assert sorted(ranks) == sorted(ranks, key=lambda pair: (pair[1], pair[0]))
    stats = table.manifest.stats["near"]
    assert (stats["search"], stats["cells"], stats["recall"]) == ("cells", 9, 1.0)
    assert stats["recall_queries"] > 100
