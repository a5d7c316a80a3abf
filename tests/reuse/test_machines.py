"""Whatever happens to sources and runs, a store with a history gives the rows of a fresh one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.reuse.pictures import Pictures
from tests.reuse.url_lists import UrlLists

Machine = type[UrlLists] | type[Pictures]


def check(machine: Machine, examples: int, steps: int) -> int:
    """Try sequences of operations, the same each time; return the number of runs compared."""
    before = machine.runs
    kind: type[RuleBasedStateMachine] = machine
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return machine.runs - before


@pytest.mark.parametrize(("machine", "examples"), [(UrlLists, 2), (Pictures, 1)])
def test_a_store_with_a_history_gives_the_rows_of_a_fresh_one(
    machine: Machine, examples: int
) -> None:
    assert check(machine, examples=examples, steps=6) >= 5


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("machine", [UrlLists, Pictures])
def test_no_long_history_changes_rows(machine: Machine) -> None:
    """More than 2,000 runs with those of the other machine."""
    assert check(machine, examples=200, steps=30) > 1000
