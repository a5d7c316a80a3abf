"""A dataset that is not what its recipe expects is not the latest; `--force` computes anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.engine.table import open_table
from curation.errors import BoundsError, ExpectationError, RecipeError
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.recipe.expect import ExpectParams
from curation.runner.expectations import _arm_problems, _change_problems
from curation.store.digest import digest
from curation.store.run_log import Recompute, read_runs
from curation.store.run_record import RunRecord
from curation.store.store import Store, manifest_path
from tests.damage.finished import build_sources
from tests.runs import run_recipe
from tests.vectors.helpers import source, without_pixels, write_list, write_vectors

Spec = dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Spec]:
    """A store with a finished run, and its recipe."""
    folder = tmp_path_factory.mktemp("expect")
    # With a target, arms have less than they request.
    spec = build_sources(folder / "web") | {"balance": {"target": 2}}
    store = Store(folder / "store")
    run_recipe(spec, store)
    return store, spec


def rows_of(store: Store, names: Sequence[str]) -> dict[str, str]:
    """A digest of the rows of each table, in the latest finished run."""
    rows = {name: open_table(store, name).read().to_pylist() for name in names}
    return {name: digest([repr(sorted(map(repr, of_table)))]) for name, of_table in rows.items()}


def another(store: Store, folder: Path) -> Store:
    """A copy of a store, that a test may change."""
    shutil.copytree(store.uri, folder / "store")
    return Store(folder / "store")


def latest(store: Store) -> RunRecord:
    return next(iter(read_runs(store)))


def arms(store: Store) -> dict[str, tuple[int, int | None]]:
    """Images of the dataset and requested images, by arm."""
    composition = open_table(store, "claims").manifest.stats["composition"]
    return {row["arm"]: (row["final"], row["requested"]) for row in composition}


def test_what_holds_is_accepted(finished: tuple[Store, Spec]) -> None:
    store, spec = finished
    rows = open_table(store, "dataset").rows
    bounds = {"rows": {"at_least": rows, "at_most": rows}, "change": 0.0, "filled": 0.0}
    results = run_recipe(spec | {"expect": bounds}, store)
    assert all(result.up_to_date for result in results)
    assert latest(store).state == "finished"


def expectations(store: Store) -> list[tuple[Spec, str]]:
    """Expectations that the dataset misses, and what the error says."""
    rows = open_table(store, "dataset").rows
    arm, (final, requested) = next((a, n) for a, n in arms(store).items() if n[1] and n[0] < n[1])
    return [
        ({"rows": {"at_least": rows + 1}}, f"at_least is {rows + 1}"),
        ({"rows": {"at_most": rows - 1}}, f"at_most is {rows - 1}"),
        ({"filled": 1.0}, f"{final} of {requested} requested"),
        ({"arms": {arm: 1.0}}, f"expect.arms.{arm} is 1"),
    ]


def test_what_does_not_hold_fails_and_is_not_the_latest(finished: tuple[Store, Spec]) -> None:
    store, spec = finished
    before = latest(store).run
    for expect, message in expectations(store):
        with pytest.raises(BoundsError, match=message):
            run_recipe(spec | {"expect": expect}, store)
        failed = latest(store)
        assert failed.state == "failed"
        assert open_table(store, "dataset", run=failed.run).rows > 0
    smaller = spec | {"balance": {"target": 1}, "expect": {"change": 0.1}}
    with pytest.raises(BoundsError, match=r"1 images after \d+ in the latest finished run"):
        run_recipe(smaller, store)
    kept = open_table(store, "dataset")
    assert kept.rows > 1
    assert next(r.run for r in read_runs(store) if r.state == "finished") == before
    # The next attempt fails too: nothing became the latest in the meantime.
    with pytest.raises(BoundsError):
        run_recipe(smaller, store)


@pytest.mark.parametrize("of", [3, 10, 100, 1000])
def test_a_share_that_is_exactly_a_bound_holds(of: int) -> None:
    """0.07 · 100 is more than 7, and 0.29 · 100 less than 29."""
    for count in range(of + 1):
        expect = ExpectParams(filled=count / of)
        assert not list(_arm_problems(expect, [{"arm": "a", "requested": of, "final": count}]))
        assert not list(_change_problems(count / of, of - count, of))
        assert not list(_change_problems(count / of, of + count, of))
        fewer = {"arm": "a", "requested": of, "final": count - 1}
        assert len(list(_arm_problems(expect, [fewer]))) == (count > 0)
        assert len(list(_change_problems(count / of, of + count + 1, of))) == 1
    assert not list(_change_problems(0.5, 0, 0)) and len(list(_change_problems(0.5, 1, 0))) == 1


@pytest.mark.parametrize("expect", [{"filled": 0.1}, {"arms": {"around": 0.1}}])
def test_an_arm_that_requests_nothing_is_not_filled(
    finished: tuple[Store, Spec], tmp_path: Path, expect: Spec
) -> None:
    store, spec = another(finished[0], tmp_path), finished[1]
    # No cluster has so many seeds.
    arms = [arm | {"more_than": 50} if arm["name"] == "around" else arm for arm in spec["retrieve"]]
    with pytest.raises(BoundsError, match="'around' requests no image"):
        run_recipe(spec | {"retrieve": arms, "expect": expect}, store)
    run_recipe(spec | {"retrieve": arms, "expect": {"filled": 0.0, "rows": {"at_least": 1}}}, store)


EMPTY = {
    "a target of 0": {"balance": {"target": 0}},
    "caps of 0": {"balance": {"per_host": 0, "per_cluster": 0, "target": 2}},
    "an arm that finds nothing": {"more_than": 50},
}


@pytest.mark.parametrize("blocks", EMPTY.values(), ids=EMPTY)
def test_a_dataset_without_images_is_not_the_latest_unless_the_recipe_accepts_it(
    finished: tuple[Store, Spec], tmp_path: Path, blocks: Spec
) -> None:
    store, spec = another(finished[0], tmp_path), dict(finished[1])
    before = open_table(store, "dataset").rows
    around = next(arm for arm in spec["retrieve"] if arm["name"] == "around")
    if "more_than" in blocks:
        spec["retrieve"] = [around | blocks]
    else:
        spec |= blocks | {"retrieve": [around]}
    with pytest.raises(ExpectationError, match="at_least is 1 \\(write 0 to accept") as error:
        run_recipe(spec, store)
    text = str(error.value)
    assert "arm 'around': " in text and " available, " in text
    assert f"--run {latest(store).run}" in error.value.details[0].fix
    assert latest(store).state == "failed"
    assert open_table(store, "dataset").rows == before > 0
    assert open_table(store, "dataset", run=latest(store).run).rows == 0
    run_recipe(spec | {"expect": {"rows": {"at_least": 0}}}, store)
    assert latest(store).state == "finished"
    assert open_table(store, "dataset").rows == 0


def test_the_change_counts_from_the_last_version_that_can_be_read(
    finished: tuple[Store, Spec], tmp_path: Path
) -> None:
    store, spec = another(finished[0], tmp_path), finished[1]
    run_recipe(spec, store)
    rows = open_table(store, "dataset").rows
    run_recipe(spec | {"balance": {"target": 1}}, store)
    last = open_table(store, "dataset").manifest
    store.storage.delete([manifest_path("dataset", last.version)])
    whole = {name: block for name, block in spec.items() if name != "balance"}
    with pytest.raises(BoundsError, match=f"after {rows} in the latest finished run"):
        run_recipe(whole | {"expect": {"change": 0.1}}, store)


def test_an_arm_is_filled_by_what_it_requests_now(tmp_path: Path) -> None:
    """A seed without a vector is requested too, and leads to the same rows of claims and dataset."""
    write_list(tmp_path / "pool.parquet", [f"p{n}" for n in range(8)])
    write_list(tmp_path / "seeds.parquet", ["s0", "s1"])
    vectors = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    ids = [*(f"p{n}" for n in range(8)), "s0", "s1"]
    encoder = write_vectors(tmp_path / "files", "npy", vectors, ids)
    encoder["ids"]["join"] = "key"
    spec = without_pixels(
        encoder,
        source(tmp_path / "pool.parquet"),
        source(tmp_path / "seeds.parquet", "birds", "seed"),
        dedup={"near": {"encoder": "semantic", "at_least": 0.9999}},
        cluster={"levels": [2]},
        retrieve=[{"name": "birds", "seeds": "birds", "strategy": "as_is"}],
        expect={"filled": 0.9},
    )
    store = Store(tmp_path / "store")
    run_recipe(spec, store)
    version = open_table(store, "dataset").manifest.version
    write_list(tmp_path / "seeds.parquet", ["s0", "s1", "without a vector"])
    with pytest.raises(BoundsError, match="2 of 3 requested"):
        run_recipe(spec, store)
    assert latest(store).tables["dataset"] == version


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"arms": {"nera": 0.5}}, "no arm 'nera'"),
        ({"filled": 1.5}, "less than or equal to 1"),
        ({"rows": {"at_least": 5, "at_most": 4}}, "more than at_most"),
        ({"rows": {"at_most": 0}}, "more than at_most"),
        ({"rows": 5}, "expect.rows"),
    ],
)
def test_expectations_that_cannot_hold_are_refused(
    tmp_path: Path, expect: Spec, message: str
) -> None:
    spec = build_sources(tmp_path)
    with pytest.raises(RecipeError, match=message):
        parse_recipe(spec | {"expect": expect})


def test_a_recipe_without_arms_may_expect_of_the_one_that_it_has(tmp_path: Path) -> None:
    spec = build_sources(tmp_path)
    near = spec.pop("retrieve")[0]["name"]
    parse_recipe(spec | {"expect": {"rows": {"at_least": 1}, "arms": {"everything": 1.0}}})
    with pytest.raises(RecipeError, match=f"no arm '{near}'"):
        parse_recipe(spec | {"expect": {"arms": {near: 1.0}}})


def test_force_computes_every_stage_again_with_the_same_rows(finished: tuple[Store, Spec]) -> None:
    store, spec = finished
    names = [str(t) for step in plan(parse_recipe(spec)) for t in step.tables]
    before = rows_of(store, names)
    results = run_recipe(spec, store, recompute=Recompute(force=True))
    assert {r.step.name: r.reused for r in results} == {r.step.name: 0 for r in results}
    assert all(result.computed for result in results)
    assert rows_of(store, names) == before
    assert all(result.up_to_date for result in run_recipe(spec, store))
