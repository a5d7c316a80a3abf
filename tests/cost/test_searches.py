"""The counted work of the search of the pool, beside what a search reads and stores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.algorithms.knn import pool, streams
from curation.algorithms.knn.running import RunningNearest
from curation.algorithms.knn.search_plan import (
    Layout,
    SearchLimits,
    SearchSize,
    choose_layout,
    work_of,
)
from curation.inspect.cost.encoder_profiles import EncoderProfile
from curation.inspect.cost.estimate import estimate
from curation.inspect.cost.rates import Assumptions, Prices, Rates, default_file, load_yaml
from curation.inspect.cost.searches import search_alternatives
from curation.inspect.cost.workload import cost_inputs, work_of_stages
from curation.recipe import load_recipe

from ..knn.test_exact import names, unit
from ..match.worlds import BOUNDS, DIM, World, match_rows

BYTES = 2 * DIM
NPROBE = 2
LIMITS = replace(
    BOUNDS,
    block_bytes=30 * (BYTES + 800 + 32),
    part_bytes=10 * BYTES,
    chunk_bytes=64 * BYTES,
    merged_rows=500,
    fragments=100,
)
MEASURED = ("reads", "gathers")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of vectors that tasks of a search read and gather."""
    seen = dict.fromkeys(MEASURED, 0)
    read, begin, add = pool.read_chunks, RunningNearest.__init__, RunningNearest.add

    def reading(parts: Any, rows: int) -> Iterator[Any]:
        for chunk in read(parts, rows):
            seen["reads"] += chunk.vectors.nbytes
            yield chunk

    def beginning(self: RunningNearest, queries: Any, *rest: Any) -> None:
        seen["reads"] += queries.nbytes
        begin(self, queries, *rest)

    def adding(self: RunningNearest, base: Any, queries: Any = None) -> None:
        seen["gathers"] += 0 if queries is None else len(queries) * BYTES
        add(self, base, queries)

    monkeypatch.setattr(streams, "read_chunks", reading)
    monkeypatch.setattr(RunningNearest, "__init__", beginning)
    monkeypatch.setattr(RunningNearest, "add", adding)
    return seen


@pytest.mark.parametrize("layout", ["exact", "stream", "cells"])
def test_planned_work_is_what_a_search_does(
    layout: str, counted: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    parts = {f"web-{n}": (names(rng, 40), unit(rng, 40, DIM)) for n in range(10)}
    parts["birds-0"] = names(rng, 120), unit(rng, 120, DIM)
    world = World(parts, {}, {"birds": 4})
    index = {"index": "ivf_flat", "nlist": 8, "nprobe": NPROBE, "recall_queries": 1}
    match = {} if layout == "exact" else index
    by: Layout = "cells" if layout == "cells" else "stream"
    store = world.store(tmp_path)
    stats = match_rows(world, store, monkeypatch, LIMITS, by, match=match).manifest.stats
    indexed = {"nlist": 8, "nprobe": NPROBE} if match else {}
    size = SearchSize({4: 120}, 400, 400, 10, DIM, **indexed)
    work = work_of(size, LIMITS, by)
    assert abs(stats["blocks"] - work.blocks) <= 1
    assert stats["slices"] <= work.slices
    assert work.candidates / 3 <= stats["candidates"] <= work.candidates
    done = sum(counted.values())
    if layout == "cells":
        # Read and sent once before, into the order of lists.
        done += BYTES * (400 + 400)
    assert work.moved / 1.5 <= done <= 1.5 * work.moved


def test_the_layout_that_moves_less_is_taken() -> None:
    """Few queries look at the pool as it lies; for many it is brought into the order of lists first."""
    few = SearchSize({4: 1_000}, 10**9, 10**9, 10_000, 1024, 65_536, 64)
    many = replace(few, queries={4: 10_000_000})
    assert choose_layout(few, SearchLimits()).layout == "stream"
    assert choose_layout(many, SearchLimits()).layout == "cells"
    exact = replace(many, nlist=0, nprobe=0)
    assert choose_layout(exact, SearchLimits()).layout == "stream"


def test_a_larger_block_reads_the_pool_less_often() -> None:
    size = SearchSize({4: 10_000_000}, 10**9, 10**9, 10_000, 1024)
    small, large = (work_of(size, SearchLimits.of_block(gib), "stream") for gib in (0.5, 8))
    assert (small.blocks, large.blocks) == (54, 4)
    # Each slice of the pool reads the queries, too.
    assert 12 < small.moved / large.moved < 16
    assert small.candidates == large.candidates


def test_sets_store_what_their_own_arms_need(root: Path) -> None:
    """The paper wants 4 neighbours of 15.8 million seeds, and 32 of 1.3 million."""
    recipe = load_recipe(root / "conf" / "recipes" / "lvd142m.yaml")
    encoders = {"semantic": EncoderProfile(dim=1280, flop=1e9)}
    works = {w.stage: w for w in work_of_stages(recipe, encoders, Assumptions(fetched=1))}
    match = works["match"]
    kept = 4 * (14_197_086 + 1_580_470) + 32 * 1_281_167
    assert match.rows == kept
    # Few candidates for each that is kept, and the pool once in the order of its lists.
    assert match.stored < 8 * 44 * kept + 120 * kept + 2e12 + 50e9
    assert match.driver < 4e9
    # Compared with each list that a query probes: exact search would be 3.3e19.
    assert 0 < match.flop < 1e17


def test_exact_search_runs_on_a_gpu_where_there_is_one(root: Path) -> None:
    recipe = load_recipe(root / "conf" / "recipes" / "lvd142m.yaml")
    encoders = {"semantic": EncoderProfile(dim=1280, flop=1e9)}
    inputs = cost_inputs(recipe, encoders, Assumptions(fetched=1))
    rates, prices = (
        load_yaml(Rates, default_file("rates")),
        load_yaml(Prices, default_file("prices")),
    )
    hours = {}
    for name, works in search_alternatives(inputs).items():
        for key, used in (("gpu", rates), ("cpu", rates.without_gpu())):
            costs = estimate(works, used, prices, months=1)
            hours[name, key] = sum(c.cpu_hours for c in costs), sum(c.gpu_hours for c in costs)
    assert hours["exact", "gpu"][0] < 2 * hours["ivf_pq", "gpu"][0]
    assert hours["exact", "gpu"][1] < 40
    assert hours["exact", "cpu"][0] > 20 * hours["ivf_pq", "cpu"][0]
    assert hours["ivf_pq", "cpu"][1] == 0


def test_without_an_arm_that_needs_neighbours_there_is_no_search(root: Path) -> None:
    recipe = load_recipe(root / "conf" / "recipes" / "lvd142m.yaml")
    arms = [arm for arm in recipe.retrieve if not arm.neighbours_needed()]
    encoders = {"semantic": EncoderProfile(dim=1280, flop=1e9)}
    other = recipe.model_copy(update={"retrieve": arms})
    assert search_alternatives(cost_inputs(other, encoders, Assumptions())) == {}


def test_seeds_that_no_arm_searches_for_are_no_queries(root: Path) -> None:
    recipe = load_recipe(root / "conf" / "recipes" / "lvd142m.yaml")
    encoders = {"semantic": EncoderProfile(dim=1280, flop=1e9)}
    inputs = cost_inputs(recipe, encoders, Assumptions())
    searched = [s.count or 0 for s in recipe.sources if recipe.neighbours_needed.get(s.name)]
    assert 0 < sum(searched) < inputs.counts.seeds
    choice = inputs.search_choice
    assert choice.exact == sum(searched) * int(inputs.counts.eligible) * 1280
