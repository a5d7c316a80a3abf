"""Small work is done in the process of the run, larger work by workers, with the same results."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.activity import Activity
from curation.engine.driver_first import MAX_MESSAGES, DriverFirst, seconds_of_thread
from curation.engine.parallel import InProcess, ShuffleJob
from curation.errors import RecipeError, WorkerError

from ..workers import Recording

BUDGET_S = 5.0


class Clock:
    """Seconds that pass only when work says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Workers(Recording):
    """Workers that note what they do."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.items = False, list[Any]()

    @contextmanager
    def during(self, label: str, items: Sequence[Any]) -> Iterator[None]:
        """Note the items."""
        self.started = True
        self.items += items
        yield


class World:
    """Work of known length, and who does it."""

    def __init__(self) -> None:
        self.clock, self.workers, self.here = Clock(), Workers(), list[float]()
        self.first = DriverFirst(self.workers, BUDGET_S, Activity(), self.clock)

    def work(self, seconds: float) -> float:
        """Take some seconds."""
        self.clock.now += seconds
        if not self.workers.started:
            self.here.append(seconds)
        return seconds

    def map(self, items: Sequence[float], gpu: bool = False, isolated: bool = False) -> list[float]:
        """Do some work."""
        return self.first.map("work", self.work, items, None, gpu, isolated)


@given(st.lists(st.lists(st.floats(0.01, 20), max_size=8), max_size=8))
def test_results_are_in_order_and_little_time_is_lost(jobs: list[list[float]]) -> None:
    """Here no item begins after the time is spent, so at most one goes beyond it."""
    world = World()
    for items in jobs:
        assert world.map(items) == items
    assert sum(world.here[:-1]) <= BUDGET_S
    assert [*world.here, *world.workers.items] == [item for items in jobs for item in items]


def test_work_that_would_take_too_long_goes_on_elsewhere_after_one_item() -> None:
    world = World()
    world.map([1.0] * 4)
    assert not world.workers.started
    world.map([0.5] * 10)
    assert world.here == [1.0] * 4 + [0.5]
    assert world.workers.items == [0.5] * 9


def test_isolated_work_is_never_done_here() -> None:
    world = World()
    world.map([0.1], isolated=True)
    assert world.workers.items == [0.1] and not world.here


def test_what_started_workers_can_do_is_left_to_them() -> None:
    world = World()
    world.map([9.0, 9.0])
    world.map([0.1])
    assert world.here == [9.0]


def test_a_machine_with_a_gpu_leaves_it_to_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.engine.driver_first.local_devices", lambda: ("cuda:0",))
    world = World()
    world.map([0.1], gpu=True)
    assert not world.here
    monkeypatch.setattr("curation.engine.driver_first.local_devices", lambda: ("cpu",))
    world = World()
    world.map([0.1], gpu=True)
    assert world.here == [0.1]


def test_what_does_not_fit_into_memory_is_tried_by_a_worker() -> None:
    world = World()

    def work(number: int) -> int:
        if number == 1 and not world.workers.started:
            raise MemoryError
        return number

    assert world.first.map("work", work, [0, 1, 2]) == [0, 1, 2]
    assert world.workers.items == [1, 2]


def test_errors_pass_and_a_failed_task_keeps_its_number() -> None:
    world = World()

    def fail(item: float) -> float:
        world.work(item)
        if world.workers.started:
            raise WorkerError("the worker has ended", task=0)
        return item

    with pytest.raises(WorkerError) as failure:
        world.first.map("work", fail, [9.0, 1.0])
    assert failure.value.task == 1

    def refuse(item: float) -> float:
        raise RecipeError("no")

    with pytest.raises(RecipeError):
        World().first.map("work", refuse, [1.0])


def shuffle(world: World, items: list[list[int]], seconds: float = 0.0) -> ShuffleJob:
    """Sums of numbers by their remainder."""

    def send(numbers: list[int]) -> Iterator[tuple[int, int]]:
        for number in numbers:
            world.clock.now += seconds
            yield number % 3, number

    return ShuffleJob("sum", send, items, lambda part, messages: (part, sum(messages)), [0, 1, 2])


@pytest.mark.parametrize(
    ("items", "seconds", "here"),
    [
        ([[1, 2], [3, 4, 5]], 0.1, True),
        ([[1, 2], [3, 4, 5]], 2.0, False),
        ([list(range(MAX_MESSAGES + 1))], 0.0, False),
    ],
)
def test_a_shuffle_is_done_here_if_it_is_short_and_small(
    items: list[list[int]], seconds: float, here: bool
) -> None:
    world = World()
    job = shuffle(world, items, seconds)
    assert world.first.exchange(job) == InProcess().exchange(job)
    assert world.workers.started is not here


def test_time_passes_while_a_thread_works_or_waits_for_others() -> None:
    by_the_clock, began = time.monotonic(), seconds_of_thread()
    threading.Event().wait(0.05)
    waited = seconds_of_thread() - began
    assert 0.04 <= waited <= time.monotonic() - by_the_clock + 0.001
