"""The search of the pool for seeds, with blocks, parts and batches of few rows, against brute force."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.algorithms.arrays import device_memory, screen_choice
from curation.algorithms.knn import exact, running, streams
from curation.algorithms.knn.exact import build_base
from curation.algorithms.knn.running import RunningNearest
from curation.algorithms.knn.search_plan import Layout, SearchLimits
from curation.engine.parallel import InProcess, ShuffleJob
from curation.engine.table import open_table
from curation.flow import plan

from ..knn.test_exact import brute_force, names, unit
from ..tables import run_step
from .worlds import BOUNDS, DIM, World, make_world, match_rows, rows_of, true_rows

T = TypeVar("T")
R = TypeVar("R")
IVF = {"index": "ivf_flat", "nlist": 4, "nprobe": 2, "recall_queries": 5}
LIMITS = {"of the default": SearchLimits(), "few": BOUNDS}


LARGE = [
    pytest.param(name, seed, marks=pytest.mark.nightly) for name in LIMITS for seed in (2, 5, 7)
]
"""Worlds whose pool is large enough for an index."""
SOME = [("few", 0), ("few", 1), ("few", 2), ("of the default", 0)]
MORE = [
    pytest.param(name, seed, marks=pytest.mark.nightly) for name in LIMITS for seed in range(3, 20)
]


@pytest.mark.parametrize(("limits", "seed"), [*SOME, *MORE])
def test_exact_search_equals_brute_force(
    limits: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(seed, skewed=seed % 2 == 0)
    store = world.store(tmp_path)
    table = match_rows(world, store, monkeypatch, LIMITS[limits])
    assert rows_of(table) == true_rows(world, store)
    assert {row[0] for row in rows_of(table)} <= {"birds", "cats", "dogs"}


def test_bounds_of_one_row_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(0)
    store = world.store(tmp_path)
    table = match_rows(world, store, monkeypatch, SearchLimits(1, 1, 1, 0, 2, 1, 1, 1))
    assert rows_of(table) == true_rows(world, store)


@pytest.mark.parametrize("layout", ["stream", "cells"])
@pytest.mark.parametrize(("limits", "seed"), [("few", 3), ("of the default", 4), *LARGE])
def test_an_index_is_exact_within_the_probed_lists_by_either_layout(
    limits: str, seed: int, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(seed, skewed=seed % 2 == 0)
    store = world.store(tmp_path)
    table = match_rows(world, store, monkeypatch, LIMITS[limits], layout, match=IVF)
    assert table.manifest.stats["layout"] == layout
    assert rows_of(table) == true_rows(world, store, nprobe=2)
    exact_rows, index_rows = true_rows(world, store), rows_of(table)
    everything = IVF | {"recall_queries": 1000}
    again = match_rows(world, store, monkeypatch, LIMITS[limits], layout, match=everything)
    pairs = [{row[1:3] for row in rows} for rows in (exact_rows, index_rows)]
    expected = len(pairs[0] & pairs[1]) / len(pairs[0])
    assert again.manifest.stats["recall"] == pytest.approx(expected, abs=1e-6)
    assert again.manifest.stats["recall_queries"] == again.manifest.stats["queries"]


def test_product_codes_lose_no_neighbours_of_the_probed_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = large_world(np.random.default_rng(0), seeds=20)
    # `refine` is for `curation search` alone.
    for refine in (1, 8):
        store = world.store(tmp_path / str(refine))
        codes = IVF | {"index": "ivf_pq", "subquantizers": 2, "refine": refine}
        table = match_rows(world, store, monkeypatch, SearchLimits(), match=codes)
        assert table.manifest.stats["index"] == "ivf_pq"
        assert rows_of(table) == true_rows(world, store, nprobe=2)


def large_world(rng: np.random.Generator, seeds: int, pool: int = 600) -> World:
    """A pool of ten fragments and one seed set, without ties."""
    parts = {f"web-{n}": (names(rng, pool // 10), unit(rng, pool // 10, DIM)) for n in range(10)}
    parts["birds-0"] = (names(rng, seeds), unit(rng, seeds, DIM))
    return World(parts, {}, {"birds": 4})


@pytest.mark.parametrize("match", [{}, IVF])
def test_few_candidates_are_stored_for_each_that_is_kept(
    match: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many fragments the pool has; a few more are stored only where all of them are few."""
    world = large_world(np.random.default_rng(1), seeds=100)
    store = world.store(tmp_path)
    layout: Layout = "cells" if match else "stream"
    limits = replace(BOUNDS, merged_rows=500, fragments=100, chunk_bytes=2**12)
    table = match_rows(world, store, monkeypatch, limits, layout, match=match)
    stats, kept = table.manifest.stats, table.rows
    assert kept == 4 * 100 or match
    assert kept <= stats["candidates"] <= BOUNDS.slices * 4 * 100
    files = sorted(Path(store.uri, "work", "match", "data").glob("0*-*.parquet"))
    stored = [pq.read_table(file) for file in files]
    # Those of the sample that measures the recall are added.
    assert 0 <= sum(map(len, stored)) - stats["candidates"] <= 5 * 4 * 10 * bool(match)
    assert sum(part.nbytes for part in stored) <= BOUNDS.slices * table.read().nbytes


class Weighing(InProcess):
    """Pickles what goes to workers and comes back, as Spark does, and ends a run if it is told to.

    Args:
        searches: number of searches after which the run ends; None for none.
    """

    def __init__(self, searches: int | None = None) -> None:
        self.argument = self.result = self.message = 0
        self.searched = 0
        self._left = searches

    def map(
        self, label: str, function: Callable[[T], R], items: Sequence[T], *args: Any, **options: Any
    ) -> list[R]:
        def call(item: T) -> R:
            if label == "search":
                if self._left == self.searched:
                    raise KeyboardInterrupt
                self.searched += 1
            self.argument = max(self.argument, len(pickle.dumps(item)))
            result = function(item)
            self.result = max(self.result, len(pickle.dumps(result)))
            return result

        return super().map(label, call, items, *args, **options)

    def exchange(self, job: ShuffleJob) -> list[Any]:
        def send(item: Any) -> Any:
            self.argument = max(self.argument, len(pickle.dumps(item)))
            for part, message in job.send(item):
                self.message = max(self.message, len(pickle.dumps(message)))
                yield part, message

        def receive(part: int, messages: list[Any]) -> Any:
            result = job.receive(part, messages)
            self.result = max(self.result, len(pickle.dumps(result)))
            return result

        return super().exchange(job._replace(send=send, receive=receive))


def test_what_goes_to_workers_does_not_grow_with_the_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times the seeds, all in one fragment, give more tasks and not larger ones."""
    weights, rows, yielded = {}, 0, 0
    count_rows = streams.candidates_batch

    def counted(candidates: Any) -> Any:
        nonlocal yielded
        yielded = max(yielded, len(candidates.query))
        return count_rows(candidates)

    monkeypatch.setattr(streams, "candidates_batch", counted)
    # Four parts make a block.
    limits = replace(
        BOUNDS,
        part_bytes=32 * 2 * DIM,
        block_bytes=2 * 32 * (2 * DIM + 832),
        chunk_bytes=2**12,
        merged_rows=500,
    )
    for seeds in (70, 700):
        world = large_world(np.random.default_rng(2), seeds=seeds, pool=200)
        store = world.store(tmp_path / str(seeds))
        weights[seeds] = weighing = Weighing()
        table = match_rows(world, store, monkeypatch, limits, parallel=weighing)
        rows = table.rows
    assert rows > 1000
    assert yielded <= limits.batch_rows
    few, many = weights[70], weights[700]
    assert many.searched >= 7 * few.searched
    assert many.argument <= 1.1 * few.argument
    assert many.result <= 1.1 * few.result
    assert many.message <= 2 * few.message


@pytest.mark.parametrize("match", [{}, IVF])
def test_a_stopped_search_continues_with_what_is_missing(
    match: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = large_world(np.random.default_rng(3), seeds=24, pool=100)
    limits = replace(BOUNDS, chunk_bytes=2**12, merged_rows=500)
    whole, stopped = world.store(tmp_path / "whole"), world.store(tmp_path / "stopped")
    alone = Weighing()
    expected = match_rows(world, whole, monkeypatch, limits, parallel=alone, match=match).read()
    assert alone.searched > 8
    first, then = Weighing(searches=5), Weighing()
    with pytest.raises(KeyboardInterrupt):
        match_rows(world, stopped, monkeypatch, limits, parallel=first, match=match)
    rows = match_rows(world, stopped, monkeypatch, limits, parallel=then, match=match).read()
    assert rows == expected
    assert (first.searched, then.searched) == (5, alone.searched - 5)


def test_a_longer_pool_is_searched_where_it_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = large_world(np.random.default_rng(4), seeds=10, pool=200)
    store = world.store(tmp_path)
    limits, before, after = SearchLimits(), Weighing(), Weighing()
    match_rows(world, store, monkeypatch, limits, parallel=before)
    added = world.parts | {"web-95": (names(np.random.default_rng(5), 20), world.parts["web-0"][1])}
    longer = replace(world, parts=added)
    table = match_rows(longer, longer.store(tmp_path), monkeypatch, limits, parallel=after)
    assert rows_of(table) == true_rows(longer, store)
    assert (before.searched, after.searched) == (10, 1)


def test_no_seeds_no_pool_and_no_arm_give_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    nothing = names(rng, 0), unit(rng, 0, DIM)
    seeds, pool = (names(rng, 3), unit(rng, 3, DIM)), (names(rng, 4), unit(rng, 4, DIM))
    worlds = {
        "no seeds": World({"web-0": pool, "birds-0": nothing}, {}, {"birds": 2}),
        "no pool": World({"web-0": nothing, "birds-0": seeds}, {}, {"birds": 2}),
        "no arm": World({"web-0": pool, "birds-0": seeds}, {}, {"birds": 0}),
    }
    for name, world in worlds.items():
        table = match_rows(world, world.store(tmp_path / name), monkeypatch)
        assert table.rows == 0, name
        assert table.manifest.stats["recall"] is None, name


def assert_equals_brute_force(device: str, k: int) -> None:
    """Compare a base that streams past queries on a device with brute force, among ties."""
    rng = np.random.default_rng(k)
    base, ids = unit(rng, 900, 24), names(rng, 900)
    base[::5] = base[0]
    queries = np.concatenate([unit(rng, 60, 24), base[:10]])
    streamed = RunningNearest(queries, k, len(base), device)
    for start in range(0, 900, 130):
        part = slice(start, start + 130)
        streamed.add(build_base(base[part], ids[part]))
    candidates = exact.concat_candidates(list(streamed.candidates(100)))
    expected = brute_force(queries, base, ids, k)
    assert list(zip(candidates.query.tolist(), candidates.ids.tolist(), strict=True)) == [
        (query, bytes(image)) for query, image, _ in expected
    ]
    np.testing.assert_array_equal(
        candidates.similarity, np.array([r[2] for r in expected], np.float32)
    )


@pytest.mark.parametrize("k", [1, 4, 300, 2000])
@pytest.mark.parametrize("screened", [True, False])
def test_a_base_that_streams_past_the_queries(
    screened: bool, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the screen, this is what runs on a GPU, here by torch on the CPU."""
    if screened:
        monkeypatch.setattr(running, "SCREEN_FROM_PRODUCTS", 0)
        monkeypatch.setattr(screen_choice, "is_faster", lambda device: True)
        monkeypatch.setattr(device_memory, "CPU_TILE", device_memory.TileSizes(33, 256))
    assert_equals_brute_force("cpu", k)


@pytest.mark.gpu
@pytest.mark.parametrize("k", [1, 4, 300])
def test_a_base_that_streams_past_queries_on_a_gpu(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SCREEN_FROM_PRODUCTS", 0)
    assert_equals_brute_force("cuda:0", k)


@pytest.mark.gpu
def test_the_recall_of_an_index_is_the_same_on_a_gpu() -> None:
    """Lists are searched by the same kernel on both, so that the CPU misses and finds the same."""
    rng = np.random.default_rng(7)
    base, ids, queries = unit(rng, 20_000, 64), names(rng, 20_000), unit(rng, 500, 64)
    lists = np.argmax(base.astype(np.float32) @ base[:16].astype(np.float32).T, axis=1)
    probed = np.argsort(-(queries.astype(np.float32) @ base[:16].astype(np.float32).T), axis=1)[
        :, :4
    ]
    pairs_by_device = {}
    for device in ("cpu", "cuda:0"):
        streamed = RunningNearest(queries, 10, len(base), device)
        for number in range(16):
            members = np.flatnonzero(lists == number)
            streamed.add(
                build_base(base[members], ids[members]),
                np.flatnonzero((probed == number).any(axis=1)),
            )
        parts = list(streamed.candidates(1000))
        pairs_by_device[device] = {
            pair for p in parts for pair in zip(p.query.tolist(), p.ids.tolist(), strict=True)
        }
    truth = {(query, bytes(image)) for query, image, _ in brute_force(queries, base, ids, 10)}
    recalls = {device: len(pairs & truth) / len(truth) for device, pairs in pairs_by_device.items()}
    assert recalls["cuda:0"] == recalls["cpu"] > 0.3
    assert pairs_by_device["cuda:0"] == pairs_by_device["cpu"]


@pytest.mark.parametrize("unused", [0, 2])
def test_only_seeds_whose_neighbours_are_searched_decide_about_an_index(
    unused: int, tmp_path: Path
) -> None:
    """A set that is taken as it is may be larger than all others, and asks for no search."""
    world = make_world(0)
    world = replace(world, k={**dict.fromkeys(world.k, 0), "birds": 3, "cats": unused})
    store = world.store(tmp_path)
    step = next(step for step in plan(world.recipe()) if step.name == "quantise")
    run_step(step, store, InProcess())
    stats = open_table(store, "codebooks").manifest.stats

    def eligible(source: str) -> int:
        return sum(
            int((~out).sum()) for n, out in world.dropped.items() if n.startswith(f"{source}-")
        )

    queries = eligible("birds") + (eligible("cats") if unused else 0)
    assert stats["multiplications"]["exact"] == queries * eligible("web") * DIM
