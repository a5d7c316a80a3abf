"""The logs of all steps, as gc reads them: who works now, and which versions were committed when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from curation.activity import utc_now
from curation.runner.gc.kept_runs import SILENCE_S
from curation.store.holder import Holder
from curation.store.removal import GC
from curation.store.step_log import Entry, StepLog
from curation.store.storage.base import FileStatus
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class ReadLog:
    """A log as it was when gc looked.

    Attributes:
        log: the log.
        files: its files: entries and signs of life.
        entries: the entries that can be read, in order.
        lease: the lease that somebody holds; None if nobody works on the step.
    """

    log: StepLog
    files: Mapping[str, FileStatus]
    entries: Sequence[Entry]
    lease: Entry | None

    @property
    def committed(self) -> Entry | None:
        """The last entry that can be read: it repeats the versions that were committed last."""
        return self.entries[-1] if self.entries else None

    def modified(self, entry: Entry) -> float:
        """Return when an entry was added, by the clock of the storage."""
        return self.files[self.log.path(entry.number)].modified


def read_logs(store: Store, now: float) -> dict[str, ReadLog]:
    """Return the logs of all steps by fingerprint.

    Args:
        store: where they are.
        now: the time by the clock of the storage.
    """
    names = [name for name in store.storage.folders("steps") if name != GC]
    return {name: _read_log(StepLog(store, name), now) for name in names}


def stages_at_work(logs: Mapping[str, ReadLog]) -> set[str]:
    """Return the stages that runs work on."""
    return {log.lease.stage for log in logs.values() if log.lease is not None}


def _read_log(log: StepLog, now: float) -> ReadLog:
    # Listed first: an entry that is added since is that of a run that waits for this gc.
    files = log.store.storage.files(log.folder)
    entries = [entry for entry in log.entries() if log.path(entry.number) in files]
    read = ReadLog(log, files, entries, None)
    last = entries[-1] if entries else None
    if last is None or last.kind != "lease" or log.numbers_of(files)[-1] != last.number:
        return read
    return replace(read, lease=last) if _may_live(read, last, now) else read


def _may_live(read: ReadLog, lease: Entry, now: float) -> bool:
    if lease.holder is not None and lease.holder.has_ended:
        return False
    beat = read.files.get(read.log.beat_path(lease.number))
    last_sign = max(read.modified(lease), beat.modified if beat else 0.0)
    return now - last_sign < SILENCE_S


def end_silent_leases(logs: Mapping[str, ReadLog], holder: Holder) -> dict[str, ReadLog]:
    """End the leases of holders without a sign of life, so that none of them can commit later.

    It would commit versions whose files gc has removed.

    Returns:
        The logs. One whose lease could not be ended has a holder that lives.
    """
    ended = dict(logs)
    for name, read in logs.items():
        last = read.committed
        if last is not None and last.kind == "lease" and read.lease is None:
            release = Entry(last.number + 1, "release", holder, tables=last.tables, time=utc_now())
            if not read.log.add(release):
                ended[name] = replace(read, lease=last)
    return ended
