"""A run that meets a fault leaves a store in which the next run gives the same tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cases import SLOW_FAULTS, case_of
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
