"""Inverted lists do not depend on how fragments share a task, which reads the codebooks once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.algorithms.knn.codebooks import read_codebooks
from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.stages.index import joint_bytes, stage
from curation.store.store import Store

from ..cluster.test_stage import fill
from ..kmeans.data import names, planted
from ..match.worlds import World
from ..tables import run_step

FRAGMENTS = 9


def lists_of(folder: Path, count: int) -> tuple[Store, dict[str, Any]]:
    rng = np.random.default_rng(0)
    vectors, _ = planted(rng, 900, 12, 20)
    store = fill(Store(folder), names(rng, 900), vectors, count)
    world = World({}, {}, {"cats": 3})
    recipe = world.recipe(match={"index": "ivf_flat", "nlist": 16})
    return store, {step.name: step for step in plan(recipe)}


def test_fragments_that_share_a_task_have_the_same_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[Table] = []

    def counting(table: Table) -> Any:
        readings.append(table)
        return read_codebooks(table)

    monkeypatch.setattr(stage, "read_codebooks", counting)
    rows = {}
    for name, at_once in (("alone", 1), ("together", 10**9)):
        monkeypatch.setattr(joint_bytes, "bytes_at_once", lambda *_, size=at_once, **__: size)
        store, steps = lists_of(tmp_path / name, FRAGMENTS)
        run_step(steps["quantise"], store, InProcess())
        readings.clear()
        run_step(steps["index"], store, InProcess())
        assert len(readings) == (FRAGMENTS if name == "alone" else 3)
        fragments = open_table(store, "lists").fragments.values()
        rows[name] = {f.name: [file.sha256 for file in f.record.files] for f in fragments}
    assert rows["alone"] == rows["together"]
    assert len(rows["alone"]) == FRAGMENTS


def test_a_task_takes_as_many_bytes_as_the_codebooks_have(tmp_path: Path) -> None:
    store, steps = lists_of(tmp_path, 2)
    run_step(steps["quantise"], store, InProcess())
    codebooks = open_table(store, "codebooks")
    size = sum((tmp_path / f.path).stat().st_size for f in codebooks.manifest.fragments[0].files)
    at_once = joint_bytes.bytes_at_once({}, codebooks, params=steps["index"].params)
    assert at_once == size > 16 * 12 * 4
