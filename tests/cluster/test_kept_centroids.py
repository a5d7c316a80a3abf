"""Centroids that are kept when rows come and go, and the drift at which they are trained again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.errors import RecipeError
from curation.flow import plan
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.step import StepResult
from curation.stages.cluster.kept_centroids import Drift
from curation.stages.cluster.params import ClusterStep
from curation.store.store import Store

from ..kmeans.data import names, planted
from ..tables import run_step
from .test_stage import DIM, fill, recipe

OPTIONS = {"levels": [12, 3], "resampling": {"rounds": 2}}
Pool = tuple[np.ndarray, np.ndarray]


def made(seed: int, rows: int, spread: float = 0.2) -> Pool:
    """Images around some centres; those of one seed have the same centres."""
    vectors, _ = planted(np.random.default_rng(seed), 2000, DIM, 12, spread=spread)
    ids = names(np.random.default_rng([seed, rows]), rows)
    return ids, vectors[np.random.default_rng([seed, rows]).integers(0, 2000, rows)]


def both(first: Pool, second: Pool) -> Pool:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def run(store: Path, pool: Pool, **cluster: Any) -> tuple[Table, StepResult]:
    """Cluster and assign a pool in fragments of 200 rows."""
    opened = fill(Store(store), *pool, parts=len(pool[0]) // 200)
    steps = {step.name: step for step in plan(recipe(**OPTIONS | cluster))}
    run_step(steps["cluster"], opened, InProcess())
    assigned = run_step(steps["assign"], opened, InProcess())
    return open_table(opened, "centroids"), assigned


@pytest.fixture(scope="module")
def pool() -> Pool:
    return made(0, 1000)


def test_without_a_history_centroids_are_those_that_are_always_trained(
    pool: Pool, tmp_path: Path
) -> None:
    always, _ = run(tmp_path / "always", pool)
    assert "drift" not in always.manifest.stats
    for retrain in ("on_drift", "never"):
        table, _ = run(tmp_path / retrain, pool, retrain=retrain)
        assert table.manifest.content == always.manifest.content
        assert table.manifest.stats["drift"] == {
            "kept": False,
            "trained_on": table.manifest.stats["drift"]["trained_on"],
            **dict.fromkeys(("images", "changed", "similarity_trained", "similarity_new")),
        }


def test_similar_rows_keep_centroids_and_only_they_are_assigned(pool: Pool, tmp_path: Path) -> None:
    before, _ = run(tmp_path, pool, retrain="on_drift")
    after, assigned = run(tmp_path, both(pool, made(0, 200)), retrain="on_drift")
    assert after.manifest.content == before.manifest.content
    assert (assigned.computed, assigned.reused) == (1, 5)
    drift = after.manifest.stats["drift"]
    assert drift["kept"]
    assert drift["trained_on"] == before.manifest.stats["drift"]["trained_on"]
    eligible = 1200 - 1200 // 7 - 1
    assert drift["images"] == eligible
    assert drift["changed"] == pytest.approx(200 / 1200, abs=0.01)
    assert abs(drift["similarity_new"] - drift["similarity_trained"]) < 0.02
    first_stats, stats = dict(before.manifest.stats), dict(after.manifest.stats)
    assert first_stats.pop("drift") != stats.pop("drift")
    assert first_stats == stats


@pytest.mark.parametrize(
    ("added", "drift"),
    [(made(5, 200), {}), (made(0, 200), {"changed": 0.1}), (made(0, 600), {})],
    ids=["other rows", "a low bound", "many rows"],
)
def test_drift_beyond_a_bound_trains_as_a_fresh_store_does(
    added: Pool, drift: dict[str, float], pool: Pool, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"retrain": "on_drift", "drift": drift}
    run(tmp_path / "store", pool, **options)
    after, _ = run(tmp_path / "store", both(pool, added), **options)
    fresh, _ = run(tmp_path / "fresh", both(pool, added), **options)
    assert after.manifest.content == fresh.manifest.content
    measured = after.manifest.stats["drift"]
    assert not measured["kept"]
    assert measured["trained_on"] == fresh.manifest.stats["drift"]["trained_on"]
    assert measured["changed"] > 0.1
    # The next drift is measured from here.
    again, _ = run(tmp_path / "store", both(both(pool, added), made(0, 200)), **options)
    assert again.manifest.stats["drift"]["changed"] < measured["changed"]


def test_never_keeps_centroids_of_any_other_pool(pool: Pool, tmp_path: Path) -> None:
    before, _ = run(tmp_path, pool, retrain="never")
    after, _ = run(tmp_path, made(9, 1000), retrain="never")
    assert after.manifest.content == before.manifest.content
    drift = after.manifest.stats["drift"]
    assert (drift["changed"], drift["similarity_trained"]) == (1.0, None)


def test_gc_leaves_kept_centroids(pool: Pool, tmp_path: Path) -> None:
    before, _ = run(tmp_path, pool, retrain="never")
    removed = collect(Store(tmp_path), Retention(1, None, 0.0)).tallies["work/cluster"]
    assert removed.removed_files > 0
    after, _ = run(tmp_path, both(pool, made(3, 200)), retrain="never")
    assert after.manifest.stats["drift"]["kept"]
    assert after.manifest.content == before.manifest.content


def test_gc_removes_the_centroids_of_steps_without_a_kept_run(pool: Pool, tmp_path: Path) -> None:
    """They may have gigabytes."""
    for levels in ([12, 3], [12, 4]):
        run(tmp_path, pool, levels=levels, retrain="on_drift")
        collect(Store(tmp_path), Retention(1, None, 0.0))
        left = list((tmp_path / "work" / "cluster").rglob("*.parquet"))
        assert len(left) == 2, left


def test_always_trains_again(pool: Pool, tmp_path: Path) -> None:
    run(tmp_path / "store", pool)
    after, _ = run(tmp_path / "store", both(pool, made(0, 200)))
    fresh, _ = run(tmp_path / "fresh", both(pool, made(0, 200)))
    assert after.manifest.content == fresh.manifest.content
    assert after.manifest.version == fresh.manifest.version


@pytest.mark.parametrize("retrain", ["always", "never"])
def test_a_bound_without_effect_is_refused(retrain: str) -> None:
    with pytest.raises(RecipeError, match=f"no effect with retrain: {retrain}. Set retrain: on_dr"):
        recipe(retrain=retrain, drift={"changed": 0.5})


@pytest.mark.parametrize("trained", [n / 100 for n in range(40, 101)])
def test_a_fall_that_is_exactly_the_bound_keeps_centroids(trained: float) -> None:
    """0.9 - 0.88 is a little more than 0.02."""
    step = next(step for step in plan(recipe(retrain="on_drift")) if step.name == "cluster")
    params = step.params
    assert isinstance(params, ClusterStep)
    drift = Drift(pa.table({}), {}, None, 100, 0.25, trained, round(trained - 0.02, 6))
    assert drift.centroids_stay(params)
    assert not replace(drift, changed=0.250001).centroids_stay(params)
    assert not replace(drift, similarity_new=round(trained - 0.020001, 6)).centroids_stay(params)
