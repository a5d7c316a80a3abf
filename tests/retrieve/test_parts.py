"""Claims are those of a brute force, and the files the same, however the rows are cut into parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.engine.parallel import InProcess, Parallel
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.retrieve import stage
from curation.store.store import Store

from ..tables import run_step
from .brute_force import BruteForce
from .random_world import World

SEEDS = (198, 126, 143, 124)


def step_of(spec: dict[str, Any], **changes: Any) -> Any:
    (step,) = (step for step in plan(parse_recipe(spec)) if step.name == "retrieve")
    return replace(step, params=step.params.model_copy(update=changes))


def run(
    folder: Path, world: World, spec: dict[str, Any], workers: Parallel, **changes: Any
) -> Table:
    store = Store(folder)
    world.commit(store)
    run_step(step_of(spec, **changes), store, workers)
    return open_table(store, "claims")


def files(claims: Table) -> dict[str, list[str]]:
    return {r.name: [file.sha256 for file in r.files] for r in claims.manifest.fragments}


def check_claims(claims: Table, world: World, spec: dict[str, Any]) -> None:
    params = step_of(spec).params
    expected = BruteForce(world, params)
    rows = [
        row | {"fragment": name}
        for name, fragment in claims.fragments.items()
        for row in fragment.read().to_pylist()
    ]
    assert rows == expected.claims()
    for counts in claims.manifest.stats["composition"]:
        wanted = expected.stats[counts["arm"]]
        assert {name: counts[name] for name in wanted} == wanted
        assert counts["capped"] == wanted["retrieved"] - wanted["final"]


def check(folder: Path, seed: int, parts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare claims that the driver decides with a brute force, and with claims decided in parts."""
    world = World(seed)
    spec = world.spec()
    on_driver = run(folder / "driver", world, spec, InProcess())
    check_claims(on_driver, world, spec)
    rows = sum(map(len, world.fragments.values())) + len(world.matches)
    for number in parts:
        monkeypatch.setattr(stage, "ROWS_PER_PART", -(-rows // number))
        claims = run(folder / str(number), world, spec, InProcess(), rows_at_once=1)
        assert files(claims) == files(on_driver)
        assert claims.manifest.stats == on_driver.manifest.stats


# Together these worlds have every strategy and every limit.
@pytest.mark.parametrize("seed", SEEDS)
def test_claims_in_parts_are_those_of_the_driver_and_of_a_brute_force(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(tmp_path, seed, (2, 7), monkeypatch)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(200, 300))
def test_claims_of_many_worlds(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path, seed, (1, 2, 7), monkeypatch)
