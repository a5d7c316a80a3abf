"""The log of a step: who works on it, and which versions of its tables it committed.

The log is a folder with numbered files. An entry is added by creating the file with the next number,
which exactly one of several writers can do. That is all that leases, fences and commits need:

- To work, a run adds an entry `lease`, unless the last entry is a lease whose holder still lives.
- The holder of entry n commits by adding entry n + 1. If somebody took the lease over, that entry is
  there already, and the commit fails.
- A holder shows that it lives by rewriting `<number>.beat`. A run that waits uses its own clock: if a
  beat did not change for `EXPIRY_S` seconds, the holder is dead. Clocks need not agree.

Every entry repeats the versions that were committed last, so readers read one file.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal

from curation.activity import utc_now
from curation.errors import LeaseError, StoreError
from curation.store.clock import Clock, SystemClock
from curation.store.holder import Holder
from curation.store.manifest import Committed
from curation.store.sealed_json import seal
from curation.store.store import Store, in_parallel

logger = logging.getLogger(__name__)

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

BEAT_S = 10.0
"""Seconds between two signs of life of a holder."""
EXPIRY_S = 60.0
"""Seconds without a sign of life after which a lease may be taken over."""
POLL_S = (0.2, 5.0)
"""Seconds between two looks of a waiting run: at first, and at most."""
FORMAT = 1
_ENTRY = re.compile(r"(\d{8,})\.json")

Kind = Literal["lease", "commit", "release"]


@dataclass(frozen=True)
class Entry:
    """One entry of a log.

    Attributes:
        number: its place in the log.
        kind: `lease` while somebody works, `commit` after a commit, `release` after a failure.
        holder: who added it.
        tables: the versions that were committed last, by table.
        reads: the versions that the holder of a lease reads, by table.
        stage: the stage that the holder of a lease runs.
        time: in UTC, ISO 8601; for people.
        after: `unique` of the entry before it.
        unique: no other entry has it.
    """

    number: int
    kind: Kind
    holder: Holder | None = None
    tables: Mapping[str, Committed] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""
    time: str = ""
    after: str = ""
    unique: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def is_damaged(self) -> bool:
        """Whether it stands for an entry that cannot be read. The next commit puts another after it."""
        return not self.unique


NOTHING = Entry(0, "release")


class StepLog:
    """The log of one step.

    Args:
        store: where it is.
        name: fingerprint of the step.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.folder = f"steps/{name}"

    def latest(self) -> Entry:
        """Return the last entry; `NOTHING` if there is none.

        A damaged entry counts as a release: its holder, if it lives, cannot commit any more.
        """
        numbers = self.numbers()
        for number in reversed(numbers):
            entry = self._read(number)
            if entry is not None:
                break
        else:
            entry = NOTHING
        if entry.number == (numbers or [0])[-1]:
            return entry
        if self.numbers()[-1:] != numbers[-1:]:
            # It was no damaged entry: others were added, and the old ones removed.
            return self.latest()
        return Entry(numbers[-1], "release", tables=entry.tables, unique="")

    def entries(self) -> list[Entry]:
        """Return the entries that can be read, in order."""
        return [e for e in in_parallel(self._read, self.numbers()) if e is not None]

    def numbers(self) -> list[int]:
        """Return the numbers of the entries, in order."""
        return self.numbers_of(self.store.storage.files(self.folder))

    @staticmethod
    def numbers_of(paths: Iterable[str]) -> list[int]:
        """Return the numbers of the entries among some files, in order."""
        names = (path.rsplit("/", 1)[-1] for path in paths)
        return sorted(int(match[1]) for match in map(_ENTRY.fullmatch, names) if match)

    def add(self, entry: Entry) -> bool:
        """Add an entry with its number; return False if another one has that number."""
        spec = asdict(entry) | {"format": FORMAT, "step": self.name}
        return self.store.storage.create(self.path(entry.number), seal(spec))

    def counts(self, entry: Entry) -> bool:
        """Whether an entry that this process added is the last one, or the next one follows it.

        Otherwise later entries were there before, and the one that had its number was removed.
        """
        if self.numbers()[-1:] == [entry.number]:
            return True
        following = self._read(entry.number + 1)
        return following is not None and following.after == entry.unique

    def _read(self, number: int) -> Entry | None:
        spec = self.store.read_json(self.path(number))
        if isinstance(spec, dict) and "number" in spec and spec.get("format") != FORMAT:
            # It may be the lease of a run that works.
            raise StoreError(
                f"{self.store.address(self.path(number))} was written by another version of curation "
                f"(format {spec.get('format')} instead of {FORMAT})",
                fix="Use the version that works on this store, or another store",
            )
        try:
            # Entries that an older version wrote do not name their step.
            if (spec["number"], spec.get("step", self.name)) != (number, self.name):
                return None
            return Entry(
                number,
                spec["kind"],
                Holder.from_json(spec["holder"]),
                {table: Committed(**committed) for table, committed in spec["tables"].items()},
                spec["reads"],
                spec["stage"],
                spec["time"],
                spec["after"],
                spec["unique"],
            )
        except (AttributeError, KeyError, TypeError):
            return None

    def path(self, number: int) -> str:
        """Return the path of an entry."""
        return f"{self.folder}/{number:08d}.json"

    def beat_path(self, number: int) -> str:
        """Return the path of the signs of life of the holder of a lease."""
        return f"{self.folder}/{number:08d}.beat"


class Lease:
    """The right to work on a step and to commit its tables. Made by `hold`."""

    def __init__(self, log: StepLog, entry: Entry) -> None:
        self._log, self._entry = log, entry
        self._ended = False
        self._beats = 0

    @property
    def token(self) -> str:
        """A name that no other lease of the store has."""
        return f"{self._log.name[:16]}-{self._entry.number}"

    @property
    def number(self) -> int:
        """Its place in the log."""
        return self._entry.number

    def taken_at(self) -> float:
        """Return when it was taken, by the clock of the storage; in the future if nobody knows."""
        status = self._log.store.storage.status(self._log.path(self._entry.number))
        return float("inf") if status is None else status.modified

    def time_of_storage(self) -> float:
        """Return the time by the clock that also stamps files: that of a sign of life written now."""
        self.beat()
        status = self._log.store.storage.status(self._log.beat_path(self._entry.number))
        return time.time() if status is None else status.modified

    @property
    def is_held(self) -> bool:
        """Whether nobody took it over."""
        return not self._ended and self._log.numbers()[-1:] == [self._entry.number]

    def check(self) -> None:
        """Raise LeaseError if somebody took the lease over."""
        if not self.is_held:
            raise self._overtaken()

    @property
    def committed(self) -> Mapping[str, Committed]:
        """The versions that were committed before, by table."""
        return self._entry.tables

    def beat(self) -> None:
        """Show that the holder lives."""
        self._beats += 1
        content = f"{self._beats} {uuid.uuid4().hex}".encode()
        try:
            self._log.store.storage.write(self._log.beat_path(self._entry.number), content)
        except Exception as error:
            # Whatever it is: the next beat may succeed, and nobody else would see the error.
            logger.warning("The lease of %s could not be renewed: %s", self._entry.stage, error)

    def commit(self, tables: Mapping[str, Committed]) -> None:
        """Make versions of tables the committed ones, all at once, and end the lease.

        Raises:
            LeaseError: somebody took the lease over.
        """
        self._end("commit", tables)

    def release(self) -> None:
        """End the lease without a commit."""
        if not self._ended:
            self._end("release", self._entry.tables)

    def _end(self, kind: Kind, tables: Mapping[str, Committed]) -> None:
        held = self._entry
        entry = Entry(held.number + 1, kind, held.holder, tables, time=utc_now(), after=held.unique)
        added = self._log.add(entry)
        self._ended = True
        if self._beats:
            self._log.store.storage.delete([self._log.beat_path(held.number)])
        # Old entries may have been removed, so the number alone is no proof.
        if not added or not self._log.counts(entry):
            raise self._overtaken()

    def _overtaken(self) -> LeaseError:
        other = self._log.latest().holder
        return LeaseError(
            f"Another run took over stage {self._entry.stage!r} of {self._log.store.uri}, "
            f"because this one gave no sign of life for {EXPIRY_S:.0f} s: "
            f"{other or 'it has ended since'}. Nothing was committed",
            fix="Run the same command again: it reuses what is finished",
        )


@dataclass(frozen=True)
class Waiting:
    """What to do while another run works on the same step.

    Attributes:
        wait: whether to wait until it has ended.
        notify: called once with a sentence that says for whom.
        clock: measures time.
    """

    wait: bool = True
    notify: Callable[[str], None] = logger.warning
    clock: Clock = field(default_factory=SystemClock)


@contextmanager
def hold(
    log: StepLog, holder: Holder, stage: str, reads: Mapping[str, str], waiting: Waiting
) -> Iterator[Lease]:
    """Take the lease of a step, and keep it while the context lasts.

    Args:
        log: the log of the step.
        holder: this process.
        stage: the stage, for messages and for whoever removes files.
        reads: the versions that it reads, by table.
        waiting: what to do while another run holds it.

    Raises:
        LeaseError: another run holds it, and `waiting.wait` is False.
    """
    lease = Lease(log, _acquire(log, Entry(0, "lease", holder, {}, reads, stage), waiting))
    end_beats = waiting.clock.repeat(BEAT_S, lease.beat)
    has_failed = True
    try:
        yield lease
        has_failed = False
    finally:
        end_beats()
        try:
            lease.release()
        except (OSError, StoreError) as problem:
            # If the work has failed, the reason of that matters more.
            if not (has_failed or isinstance(problem, LeaseError)):
                raise
            logger.info("The lease of stage %r was not given back: %s", stage, problem)


def _acquire(log: StepLog, wanted: Entry, waiting: Waiting) -> Entry:
    observed: tuple[int, bytes | None, float] | None = None
    pause, notified = POLL_S[0], False
    while True:
        last = log.latest()
        beat = log.store.storage.read(log.beat_path(last.number)) if last.kind == "lease" else None
        now = waiting.clock.monotonic()
        if observed is None or observed[:2] != (last.number, beat):
            observed = (last.number, beat, now)
        if _is_free(last, now - observed[2]):
            rest = last.tables, wanted.reads, wanted.stage, utc_now(), last.unique
            entry = Entry(last.number + 1, "lease", wanted.holder, *rest)
            if log.add(entry):
                return entry
            continue
        if not waiting.wait:
            raise LeaseError(_describe(last), fix="Leave out --no-wait to wait until it has ended")
        if not notified:
            waiting.notify(f"{_describe(last)}. Waiting until it has ended.")
            notified = True
        waiting.clock.sleep(pause)
        pause = min(2 * pause, POLL_S[1])


def _is_free(last: Entry, silent_s: float) -> bool:
    """Whether the lease may be taken, after the last entry did not change for some seconds."""
    has_ended = last.holder is not None and last.holder.has_ended
    return last.kind != "lease" or silent_s >= EXPIRY_S or has_ended


def _describe(lease: Entry) -> str:
    return f"Stage {lease.stage!r} is being worked on by {lease.holder} since {lease.time}"
