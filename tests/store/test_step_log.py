"""The log of a step when somebody comes between two requests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from obstore.exceptions import GenericError

from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.engine.units import StageOutput
from curation.errors import ContractError, LeaseError, StoreError
from curation.store.holder import Holder, this_process
from curation.store.manifest import Committed
from curation.store.step_log import Lease, StepLog, Waiting, hold
from curation.store.storage.base import FileStatus
from curation.store.storage.local import LocalStorage
from curation.store.store import Store

from .processes import ImpatientClock

FIRST, SECOND = {"t": Committed("v1", "k")}, {"t": Committed("v2", "k")}


class Interrupted(LocalStorage):
    """A folder in which something happens before a request: once, when `before` has an entry for it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before: dict[str, Callable[[], object]] = {}

    def _interrupt(self, request: str) -> None:
        if request in self.before:
            self.before.pop(request)()

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        self._interrupt("read")
        return super().read(path)

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        self._interrupt("write")
        super().write(path, content)

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        self._interrupt("files")
        return super().files(folder, recursive)


@pytest.fixture
def storage(tmp_path: Path) -> Interrupted:
    return Interrupted(tmp_path / "store")


@pytest.fixture
def log(storage: Interrupted) -> StepLog:
    return StepLog(Store(storage.uri, storage), "step")


def elsewhere(run: str) -> Holder:
    """A process of another machine, of which nobody here knows whether it has ended."""
    return replace(this_process(run), host="elsewhere")


def take(log: StepLog, run: str, stack: ExitStack) -> Lease:
    """Take the lease, however long that takes."""
    waiting = Waiting(notify=lambda text: None, clock=ImpatientClock())
    return stack.enter_context(hold(log, elsewhere(run), "stage", {}, waiting))


def remove_entries(log: StepLog, keep_from: int) -> None:
    """Remove old entries, as `curation gc` may."""
    for number in log.numbers():
        if number < keep_from:
            LocalStorage.delete(log.store.storage, [log.path(number)])  # type: ignore[arg-type]


def test_a_commit_counts_though_the_next_run_takes_the_lease_at_once(
    log: StepLog, storage: Interrupted
) -> None:
    with ExitStack() as stack:
        first = take(log, "first", stack)
        # After the commit was added, before the holder looks at the log again.
        storage.before["files"] = lambda: take(log, "second", stack)
        first.commit(FIRST)
        assert log.latest().kind == "lease"
        assert log.latest().tables == FIRST


def test_a_holder_that_was_overtaken_cannot_commit_though_old_entries_were_removed(
    log: StepLog,
) -> None:
    with ExitStack() as stack:
        first = take(log, "first", stack)
        take(log, "second", stack).commit(SECOND)
        remove_entries(log, 3)
        with pytest.raises(LeaseError, match="Nothing was committed"):
            first.commit(FIRST)
    assert log.latest().tables == SECOND


def test_a_holder_that_was_overtaken_deletes_nothing_that_the_next_one_may_read(
    log: StepLog,
) -> None:
    def rows(start: int) -> StageOutput:
        yield pa.RecordBatch.from_pydict({"n": [start]})
        return {}

    with ExitStack() as stack:
        first = take(log, "first", stack)
        context = Context(
            log.store, InProcess(), "stage", "salt", step="step", check_lease=first.check
        )
        private = context.private()
        tables = private.compute("rows", rows, {"a": {"start": 1}}).values()
        state = pa.RecordBatch.from_pydict({"n": [1]})
        private.save_state("state", 1, state)
        take(log, "second", stack)
        kept = log.store.storage.files("work", recursive=True).keys()
        with pytest.raises(LeaseError, match="took over stage 'stage'"):
            private.delete_tables(tables)
        with pytest.raises(LeaseError, match="took over stage 'stage'"):
            private.save_state("state", 1, state)
        assert kept <= log.store.storage.files("work", recursive=True).keys()


def test_a_reader_whose_entry_is_removed_meanwhile_reads_the_one_that_follows(
    log: StepLog, storage: Interrupted
) -> None:
    with ExitStack() as stack:
        take(log, "first", stack).commit(FIRST)

        def go_on() -> None:
            take(log, "second", stack).commit(SECOND)
            remove_entries(log, 4)

        storage.before["read"] = go_on
        assert log.latest().tables == SECOND


def test_an_entry_that_is_damaged_leaves_what_was_committed_before(
    log: StepLog, storage: Interrupted
) -> None:
    with ExitStack() as stack:
        take(log, "first", stack).commit(FIRST)
        second = take(log, "second", stack)
        storage.write(log.path(log.numbers()[-1]), b"{")
        latest = log.latest()
        assert (latest.number, latest.kind, latest.tables) == (3, "release", FIRST)
        take(log, "third", stack).commit(FIRST)
        with pytest.raises(LeaseError):
            second.commit(SECOND)


@pytest.mark.parametrize("error", [OSError("no space"), GenericError("503")])
def test_a_holder_outlives_a_heartbeat_that_fails(
    log: StepLog, storage: Interrupted, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail() -> None:
        raise error

    with ExitStack() as stack:
        lease = take(log, "first", stack)
        storage.before["write"] = fail
        lease.beat()
        assert "could not be renewed" in caplog.text
        beats = log.beat_path(1)
        assert storage.read(beats) is None
        lease.beat()
        assert storage.read(beats) is not None


def test_the_reason_of_a_failure_is_not_replaced_by_that_of_giving_the_lease_back(
    log: StepLog, storage: Interrupted
) -> None:
    def fail() -> None:
        raise StoreError("no space left")

    with pytest.raises(ContractError, match="rows"), ExitStack() as stack:
        take(log, "first", stack)
        storage.before["files"] = fail
        raise ContractError("rows break the contract")
    # Without another failure it is one.
    with pytest.raises(StoreError, match="no space left"), ExitStack() as stack:
        take(log, "second", stack)
        storage.before["files"] = fail
