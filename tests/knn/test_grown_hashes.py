"""The join of hashes of a pool that grew: pairs of old hashes are taken over, with equal results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.algorithms.knn import hash_cells, hash_groups, hash_parts
from curation.algorithms.knn.hash_groups import Images, contents_of
from curation.algorithms.knn.hash_merge import KnownHashes, search_hashes
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.neighbours import stage
from curation.store.store import Store

from ..tables import commit, commit_vectors, run_step
from ..workers import Recording
from .test_hamming import ROLE_PAIRS, Joined, World, merged, near_hashes, reference, world


def part_of(images: Images, names: set[str]) -> Images:
    """The fragments with some names, of the roles that have one."""
    parts = {
        role: {name: pair for name, pair in named.items() if name in names}
        for role, named in images.items()
    }
    return {role: named for role, named in parts.items() if named}


@pytest.mark.parametrize("examples", [12, pytest.param(200, marks=pytest.mark.nightly)])
def test_images_that_are_added_give_what_comparing_all_pairs_gives(
    examples: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Images are added in any order: equal ones, smaller ids, and whole roles that come later."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        seed=st.integers(0, 10**6),
        k=st.integers(1, 6),
        distance=st.sampled_from([0, 15, 24, 47]),
        crowded=st.booleans(),
        shares=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    )
    def check(seed: int, k: int, distance: int, crowded: bool, shares: list[int]) -> None:
        store = Store(tmp_path_factory.mktemp("hashes"))
        params = HammingParams(max_distance=distance, k=k)
        images = world(seed, 24, crowded)
        assert grown(images, store, params, shares, seed) == reference(images, distance, k)

    check()


def grown(
    images: World, store: Store, params: HammingParams, shares: list[int], seed: int
) -> Joined:
    """The pairs of the last of several joins, each with some images more than the one before."""
    context = Context(store, InProcess(), "cells", None)
    every = images.write(store)
    order = np.random.default_rng(seed).permutation([n for named in every.values() for n in named])
    ends = np.ceil(np.cumsum(shares) / sum(shares) * len(order)).astype(int)
    known = KnownHashes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_parts, "CELL_HASHES", 20)
        patch.setattr(hash_parts, "ROW_COST", 1.0)
        patch.setattr(hash_cells, "CELL_HASHES", 60)
        patch.setattr(hash_cells, "FEWEST_ROWS", 50)
        patch.setattr(hash_groups, "HASHES_PER_PART", 11)
        patch.setattr(hash_groups, "ROWS_AT_ONCE", 6)
        for end in ends.tolist():
            by_role = part_of(every, set(order[:end].tolist()))
            search = search_hashes(by_role, ROLE_PAIRS, params, context, known)
            known = KnownHashes(contents_of(by_role), search.near_hashes)
    return merged(search, context)


RECIPE: dict[str, Any] = {
    "name": "grown",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
        {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
    ],
    "dedup": {"perceptual": {"max_distance": 24}, "near": None, "verify": None},
}
Hashed = dict[str, dict[str, bytes]]
"""Hashes by fragment and image."""


def hashed_parts(seed: int) -> Hashed:
    """Fragments with near and equal hashes, of which the ids of the last one are the smallest."""
    hashes = near_hashes(np.random.default_rng(seed), 120)
    hashes[100:] = hashes[:20]
    names = [*(f"web-{n}" for n in range(4)), "test-0", "web-4"]
    return {
        name: {
            f"{(5 - part) * 1000 + number:032x}": hashes[20 * part + number].tobytes()
            for number in range(20)
        }
        for part, name in enumerate(names)
    }


def neighbours(store: Store, parts: Hashed, workers: InProcess) -> list[dict[str, Any]]:
    ids = {name: np.array(list(part), "S32") for name, part in parts.items()}
    commit_vectors(store, {n: (i, np.ones((len(i), 4), np.float16)) for n, i in ids.items()})
    scores = {
        name: [{"pair_id": image, "phash": phash} for image, phash in part.items()]
        for name, part in parts.items()
    }
    commit(store, "scores", scores)
    step = next(step for step in plan(parse_recipe(RECIPE)) if step.name == "neighbours")
    run_step(step, store, workers)
    rows: list[dict[str, Any]] = open_table(store, "neighbours").read().to_pylist()
    return sorted(rows, key=lambda row: (row["role_a"], row["role_b"], row["image_a"], row["rank"]))


@pytest.mark.parametrize("change", ["grown", "removed", "note gone", "work gone"])
def test_a_step_keeps_pairs_as_long_as_their_images_and_tables_are_there(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "HASHES_COMPARED", 0)
    parts = hashed_parts(7)
    store, work = Store(tmp_path / "grown"), tmp_path / "grown" / "work" / "neighbours"
    neighbours(store, {name: part for name, part in parts.items() if name != "web-4"}, InProcess())
    shutil.copytree(tmp_path / "grown", tmp_path / "whole")
    if change == "removed":
        del parts["web-1"]
    elif change == "note gone":
        shutil.rmtree(work / "done")
    elif change == "work gone":
        for path in (work / "data").glob("hash-cells*"):
            path.unlink()
    recording = Recording()
    rows = neighbours(store, parts, recording)
    assert ("hash pairs" in recording.mapped) == (change == "grown")
    monkeypatch.setattr(stage, "known_hashes", lambda *_: KnownHashes())
    assert rows and rows == neighbours(Store(tmp_path / "whole"), parts, InProcess())
