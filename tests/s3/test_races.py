"""Two writers race for one file and for one step on a real S3 server: exactly one wins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

import pytest

from benchmarks.object_store.server import address
from curation.errors import LeaseError
from curation.store.clock import SystemClock
from curation.store.holder import this_process
from curation.store.manifest import Committed
from curation.store.step_log import Entry, Lease, StepLog, Waiting, hold
from curation.store.store import Store

T = TypeVar("T")
CONTENTS = (b"first", b"second")
ROUNDS = [50, pytest.param(1_000, marks=pytest.mark.nightly)]


class Together(Protocol):
    """Calls two functions at the same moment; returns what they return."""

    def __call__(self, first: Callable[[], T], second: Callable[[], T]) -> tuple[T, T]: ...


class QuickClock(SystemClock):
    """Looks again soon."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.002))


@pytest.fixture
def stores(server: int, request: pytest.FixtureRequest) -> tuple[Store, Store]:
    """Two clients of one store."""
    uri = address(server, f"races-{abs(hash(request.node.name))}")
    return Store(uri), Store(uri)


@pytest.fixture
def together() -> Iterator[Together]:
    """Calls two functions at the same moment; returns what they return."""
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:

        def call(first: Callable[[], T], second: Callable[[], T]) -> tuple[T, T]:
            def start(function: Callable[[], T]) -> T:
                barrier.wait()
                return function()

            started = [pool.submit(start, function) for function in (first, second)]
            return started[0].result(), started[1].result()

        yield call


@pytest.mark.parametrize("rounds", ROUNDS)
def test_one_of_two_creates_a_file(
    stores: tuple[Store, Store],
    together: Together,
    rounds: int,
) -> None:
    storages = [store.storage for store in stores]
    wins = [0, 0]
    for number in range(rounds):
        path = f"race/{number:04d}"
        creators = (partial(s.create, path, c) for s, c in zip(storages, CONTENTS, strict=True))
        won = together(*creators)
        assert sorted(won) == [False, True], number
        assert storages[0].read(path) == CONTENTS[won.index(True)]
        wins[won.index(True)] += 1
    # Otherwise they did not race.
    assert min(wins) >= rounds // 50


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_commit_and_a_takeover_exclude_each_other(
    stores: tuple[Store, Store],
    together: Together,
    rounds: int,
) -> None:
    """The holder of a lease commits while another one takes the lease over."""
    wins = [0, 0]
    for number in range(rounds):
        holder_log, other_log = (StepLog(store, f"takeover{number}") for store in stores)
        entry = Entry(1, "lease", this_process("a"), {"t": Committed("old", "")}, stage="t")
        assert holder_log.add(entry)
        lease = Lease(holder_log, entry)

        def commit(lease: Lease = lease) -> bool:
            try:
                lease.commit({"t": Committed("new", "")})
            except LeaseError:
                return False
            return True

        def take_over(log: StepLog = other_log) -> bool:
            return log.add(
                Entry(2, "lease", this_process("b"), {"t": Committed("old", "")}, stage="t")
            )

        committed, taken = together(commit, take_over)
        assert committed != taken, number
        last = other_log.latest()
        assert (last.kind, last.tables["t"].version) == (
            ("commit", "new") if committed else ("lease", "old")
        )
        wins[taken] += 1
    assert min(wins) >= rounds // 50


@pytest.mark.parametrize("rounds", ROUNDS)
def test_two_that_wait_for_one_lease_both_commit(
    stores: tuple[Store, Store],
    together: Together,
    rounds: int,
) -> None:
    """No commit is lost: whoever is second sees what the first committed."""
    waiting = Waiting(notify=lambda text: None, clock=QuickClock())
    for number in range(rounds):

        def work(store: Store, name: str, number: int = number) -> str | None:
            log = StepLog(store, f"both{number}")
            with hold(log, this_process(name), "t", {}, waiting) as lease:
                before = lease.committed.get("t")
                lease.commit({"t": Committed(name, "", {"t": before.version} if before else {})})
            return before.version if before else None

        seen = together(lambda: work(stores[0], "a"), lambda: work(stores[1], "b"))
        log = StepLog(stores[0], f"both{number}")
        assert seen in ((None, "a"), ("b", None))
        assert log.numbers() == [1, 2, 3, 4]
        last = "b" if seen[0] is None else "a"
        assert log.latest().tables["t"].version == last
