"""A run that meets a fault leaves a store in which the next run gives the same tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.flow import STAGES
from scripts.nightly_parts import faults

from .cases import SLOW_FAULTS, WORKERS, case_of
from .world import World, built_world, run_case

CASES = 20
"""Cases that `make test` runs; `python -m tests.faults` runs others."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with built_world(tmp_path_factory.mktemp("faults")) as world:
        yield world


@pytest.mark.parametrize("seed", range(CASES))
def test_after_a_fault_the_tables_are_the_same(world: World, seed: int) -> None:
    case = case_of(seed, world.operations, workers="here", without=SLOW_FAULTS)
    assert not run_case(world, case), str(case)


def test_the_page_of_the_store_has_the_cases_of_make_nightly(root: Path) -> None:
    operations, counts = dict.fromkeys(STAGES, 1), Counter[tuple[str, str]]()
    for command in faults():
        _, number, *rest = command.arguments[command.arguments.index("--cases") :]
        for seed in range(int(number)):
            case = case_of(seed, operations, rest[-1] if rest else None)
            counts[case.fault, case.workers] += 1
    page = (root / "docs" / "store.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `(\w+)` \|.*\| (\d+), (\d+), (\d+) \|$", page, re.MULTILINE)
    assert {fault: [*map(int, numbers)] for fault, *numbers in shown} == {
        fault: [counts[fault, workers] for workers in WORKERS] for fault, _ in counts
    }
