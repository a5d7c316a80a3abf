"""Adding a fragment gives the result of a run over all fragments, and computes only its own pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.algorithms.knn.blocks import blocks_of
from curation.engine.parallel import InProcess, Parallel
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.store.store import Store

from ..tables import VectorParts, commit_vectors, run_step
from ..workers import Recording

DIM = 16


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(
        {
            "name": "longer",
            "sources": [
                {
                    "name": "web",
                    "role": "pool",
                    "format": "csv",
                    "path": "w",
                    "columns": {"url": "u"},
                },
                {"name": "test", "role": "held_out", "format": "folder", "path": "t"},
            ],
            "dedup": {
                "near": {"encoder": "semantic", "k": 6, "at_least": 0.9, "join": "exact"},
                "held_out": {"at_least": 0.95},
                "verify": None,
                "perceptual": None,
            },
        }
    )


def world() -> VectorParts:
    """Three fragments with chains of vectors, each near the one before it, also across fragments."""
    rng = np.random.default_rng(0)
    starts = rng.normal(size=(60, DIM))
    chain = np.concatenate([starts + 0.08 * n * rng.normal(size=(60, DIM)) for n in range(5)])
    vectors = chain / np.linalg.norm(chain, axis=1, keepdims=True)
    ids = np.array([f"{(n * 7919) % 300:032x}" for n in range(300)], "S32")
    order = rng.permutation(300)
    parts = {
        f"web-{n}": (ids[rows], vectors[rows].astype(np.float16))
        for n, rows in enumerate(np.array_split(order, 3))
    }
    test = np.array([f"{900 + n:032x}" for n in range(8)], "S32")
    return parts | {"test-0": (test, vectors[:8].astype(np.float16))}


def copies(
    store: Store, recipe: Recipe, parts: VectorParts, parallel: Parallel
) -> dict[str, dict[str, Any]]:
    commit_vectors(store, parts)
    steps = {step.name: step for step in plan(recipe)}
    for name in ("neighbours", "verify", "dedup"):
        run_step(steps[name], store, parallel)
    return {row["pair_id"]: row for row in open_table(store, "copies").read().to_pylist()}


def test_same_components_and_little_work(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.algorithms.knn.blocks.blocks_of", lambda f: blocks_of(f, 100))
    parts = world()
    expected = copies(Store(tmp_path / "expected"), recipe, parts, InProcess())
    grown, recording = Store(tmp_path / "grown"), Recording()
    early = {name: part for name, part in parts.items() if name != "web-2"}
    first = copies(grown, recipe, early, recording)
    recording.mapped.clear()
    second = copies(grown, recipe, parts, recording)
    assert second == expected
    assert {n: first[n]["component_id"] for n in first} != {
        n: expected[n]["component_id"] for n in first
    }
    # Four of the nine pairs of blocks are reused, and held-out images are compared with the new block.
    searched = [what for what in recording.mapped if "merged" not in what]
    assert searched.count("near pool-pool") == 5
    assert searched.count("near held_out-pool") == 1
