"""Whatever happens to sources and runs, a store with a history gives the rows of a fresh one."""

from __future__ import annotations

import pytest
from hypothesis import seed
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.machine_settings import machine_settings
from tests.reuse.pictures import Pictures
from tests.reuse.url_lists import UrlLists

Machine = type[UrlLists] | type[Pictures]


def check(machine: Machine, examples: int, steps: int, number: int = 0) -> int:
    """Try sequences of operations, each number its own; return the number of runs compared."""
    before = machine.runs
    kind: type[RuleBasedStateMachine] = seed(number)(machine)
    run_state_machine_as_test(
        kind,
        settings=machine_settings(examples, steps),
    )
    return machine.runs - before


@pytest.mark.parametrize(("machine", "examples"), [(UrlLists, 2), (Pictures, 1)])
def test_a_store_with_a_history_gives_the_rows_of_a_fresh_one(
    machine: Machine, examples: int
) -> None:
    assert check(machine, examples=examples, steps=6) >= 5


def test_groups_that_another_recipe_formed_keep_the_order_of_files() -> None:
    """A stopped run of another recipe has put a list into a group that is read before this one's."""
    lists = UrlLists()
    try:
        lists.build()
        lists.remove("one", "1.parquet")
        lists.remove("two", "1.parquet")
        lists.write("one", "2.parquet", [(1, "x"), (5, "y")])
        lists.write("two", "2.parquet", [(7, "x"), (2, "y"), (9, "x")])
        lists.stop("b", 100, 1)
        lists.write("one", "1.parquet", [(4, "x"), (1, "x"), (0, "x")])
        lists.write("one", "4.parquet", [(6, "x"), (0, "y"), (5, "x")])
        lists.run_recipe("a", 3)
        lists.run_recipe("a", 3)
    finally:
        lists.teardown()


def test_a_list_whose_rows_moved_to_another_leaves_nothing_to_do() -> None:
    """Its group has no row in the new version, which is no reason to look for removed pairs again."""
    lists = UrlLists()
    try:
        lists.build()
        lists.run_recipe("a", 2)
        lists.write("one", "4.parquet", [(1, "x"), (5, "y")])
        lists.run_recipe("a", 2)
        lists.remove("one", "4.parquet")
        lists.write("one", "1.parquet", [(1, "x"), (5, "y")])
        lists.run_recipe("a", 2)
    finally:
        lists.teardown()


def test_a_version_with_the_same_rows_does_not_bring_back_an_older_history() -> None:
    """The rows of the last run are those of an earlier one, which removed the same pairs otherwise."""
    lists = UrlLists()
    try:
        lists.build()
        lists.block([1, 3])
        lists.write("two", "4.parquet", [(7, "x"), (8, "x"), (9, "y"), (1, "x")])
        lists.run_recipe("b", 100)
        lists.remove("two", "4.parquet")
        lists.run_recipe("b", 3)
        lists.block([])
        lists.run_recipe("b", 2)
        lists.block([1])
        lists.run_recipe("b", 100)
    finally:
        lists.teardown()


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("machine", [UrlLists, Pictures])
def test_no_long_history_changes_rows(machine: Machine) -> None:
    """More than 2,000 runs with those of the other machine; how many a sequence has is by chance."""
    runs = number = 0
    while runs <= 1000:
        runs += check(machine, examples=20, steps=30, number=number)
        number += 1
