"""Runs: one small file for each, with the versions of the tables that it made or used.

The file is written by its run alone: at the start, after each step and at the end. While the run goes
on the file has another name, so that a late write cannot replace the final record.
The latest finished run that has a table decides which version people see who name none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from curation.activity import Activity, utc_now
from curation.errors import CurationError, Detail, StoreError, reason_of_end
from curation.store.clock import Clock
from curation.store.holder import Holder
from curation.store.layout import check_is_store, is_written_here
from curation.store.manifest import Committed
from curation.store.run_record import (
    FOLDER,
    RUNNING_SUFFIX,
    SUFFIX,
    RunRecord,
    State,
    new_run,
    parse_record,
)
from curation.store.sealed_json import seal
from curation.store.store import Store
from curation.store.tags import find_tag, tag_names

logger = logging.getLogger(__name__)

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

REFRESH_S = 5.0
"""Seconds between two writes of the record of a run while a stage works."""
SHOWN_NAMES = 10
"""Tags, and runs, that an error lists."""
MAX_ERROR = 2000
"""Characters of an error that a record holds."""


@dataclass(frozen=True)
class Recompute:
    """What a run computes again although nothing that decides rows changed.

    Attributes:
        force: everything that its steps write.
        retry: rows that failed for these reasons; a stage may know names for several reasons.
    """

    force: bool = False
    retry: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageSummary:
    """What a run records of a stage besides its tables.

    Attributes:
        rows: number of rows of its tables.
        outcomes: number of its rows by `ok` or reason.
        seconds: how long it took.
    """

    rows: int
    outcomes: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Run:
    """A run that is going on: the versions that it made or used, and its record in the store.

    Args:
        store: where it works.
        record: of a run that starts now.

    Attributes:
        removals: what `wait_for_removal` returned last; None before the first call.
        recompute: what it was asked to compute again.
        activity: what it does now.
    """

    removals: int | None = None
    recompute: Recompute = Recompute()

    def __init__(self, store: Store, record: RunRecord) -> None:
        self._store, self.record = store, record
        self.activity = Activity()
        self._saving = threading.Lock()
        self._lineages: dict[str, Mapping[str, str]] = {}
        self._started = time.monotonic()
        self.save()

    @property
    def holder(self) -> Holder:
        """The process, for leases."""
        assert self.record.holder is not None
        return self.record.holder

    def table(self, name: str, step: str) -> Committed | None:
        """Return the version of a table that the run made or used; None if it has none of that step."""
        if self.record.steps.get(name) != step:
            return None
        return Committed(self.record.tables[name], "", self._lineages[name])

    def use(self, tables: Mapping[str, Committed], step: str) -> None:
        """Add versions of tables that one step made; later steps of the run read the same."""
        record = self.record
        versions = {name: committed.version for name, committed in tables.items()}
        self._lineages |= {name: committed.lineage for name, committed in tables.items()}
        self.record = replace(
            record,
            tables={**record.tables, **versions},
            steps={**record.steps, **dict.fromkeys(versions, step)},
        )

    def add(
        self, stage: str, summary: StageSummary, tables: Mapping[str, Committed], step: str
    ) -> None:
        """Add a step that has ended, with what it committed."""
        self.use(tables, step)
        record = self.record
        self.record = replace(
            record,
            stages=(*record.stages, stage),
            rows={**record.rows, stage: summary.rows},
            outcomes={**record.outcomes, stage: summary.outcomes},
            stage_seconds={**record.stage_seconds, stage: round(summary.seconds, 3)},
        )
        self.save()

    def end(self, state: State, error: str = "") -> None:
        """Record what became of it.

        Args:
            state: what became of it.
            error: why it failed.
        """
        progress = self.activity.progress() if state == "failed" else None
        self.record = replace(self.record, state=state, error=error, progress=progress)
        self.save()

    def save(self) -> None:
        """Write the record."""
        with self._saving:
            seconds = round(time.monotonic() - self._started, 3)
            self.record = replace(self.record, seconds=seconds, updated=utc_now())
            save_record(self._store, self.record)

    def refresh(self) -> None:
        """Write the record with the current progress; another thread may call it meanwhile."""
        with self._saving:
            seconds = round(time.monotonic() - self._started, 3)
            progress = self.activity.progress()
            record = replace(self.record, seconds=seconds, updated=utc_now(), progress=progress)
            try:
                save_record(self._store, record)
            except Exception as error:
                # No error of watching may end the run.
                logger.info("The progress of run %s was not written: %s", record.run, error)


@contextmanager
def recorded_run(
    store: Store, recipe: str, fingerprint: str, planned: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """Start a run of a recipe, and record at the end what became of it.

    Args:
        store: where it works.
        recipe: name of the recipe.
        fingerprint: of the recipe's run.
        planned: see `RunRecord`. Nothing is removed that these steps committed last.
    """
    if not store.storage.can_create_exclusively:
        logger.warning(
            "The store %s cannot create a file only if it is not there. Two runs at once on it may "
            "overwrite each other's work: use it by one run at a time.",
            store.uri,
        )
    with recorded(store, new_run(recipe, fingerprint, planned, run_names(store))) as run:
        yield run


@contextmanager
def recorded(store: Store, record: RunRecord) -> Iterator[Run]:
    """Write the record of a run that starts now, and at the end what became of it.

    Args:
        store: where it works.
        record: the record.
    """
    run = Run(store, record)
    try:
        yield run
    except BaseException as error:
        try:
            run.end("failed", describe_failure(error))
        except (OSError, StoreError) as problem:
            # The reason of the failure matters more.
            logger.warning("The end of run %s could not be recorded: %s", run.record.run, problem)
        raise
    run.end("finished")


@contextmanager
def refreshed(run: Run, clock: Clock) -> Iterator[None]:
    """Write the record of a run from time to time, so that others can watch it."""
    end = clock.repeat(REFRESH_S, run.refresh)
    try:
        yield
    finally:
        end()


def describe_failure(error: BaseException) -> str:
    """Return what the record says of an error: of one that nobody foresaw, only its kind."""
    reason = reason_of_end(error)
    text = str(reason) if isinstance(reason, CurationError) else type(reason).__name__
    return text[:MAX_ERROR]


def save_record(store: Store, record: RunRecord) -> None:
    """Write the record of a run. The final record replaces the one that was written meanwhile."""
    store.storage.write(record.path, seal(record.to_json()))
    if record.state != "running":
        store.storage.delete([names_of(record.path)[1]])


def run_paths(listed: Iterable[str]) -> dict[str, str]:
    """Return the path of the record of each run, the one that started last first.

    Args:
        listed: the files of the folder of runs. A run that has ended may still have its earlier file.
    """
    paths: dict[str, str] = {}
    for path in sorted(p for p in listed if p.endswith(SUFFIX) and is_written_here(p)):
        name = path.removeprefix(f"{FOLDER}/")
        run = name.removesuffix(RUNNING_SUFFIX).removesuffix(SUFFIX)
        if run not in paths or not path.endswith(RUNNING_SUFFIX):
            paths[run] = path
    return dict(sorted(paths.items(), reverse=True))


def run_names(store: Store) -> list[str]:
    """Return the names of all runs of a store, the one that started last first."""
    return list(run_paths(store.storage.files(FOLDER)))


def names_of(path: str) -> tuple[str, str]:
    """Return the paths of the record of a run after its end and before, given one of the two."""
    stem = path.removesuffix(RUNNING_SUFFIX).removesuffix(SUFFIX)
    return stem + SUFFIX, stem + RUNNING_SUFFIX


def read_record(store: Store, path: str) -> RunRecord | None:
    """Return the record at one of `run_paths`; None if it cannot be read or is no longer there."""
    record = _parsed(store, path)
    ended, running = names_of(path)
    # The run may have ended since the files were listed.
    return _parsed(store, ended) if record is None and path == running else record


def _parsed(store: Store, path: str) -> RunRecord | None:
    spec = store.read_json(path)
    record = parse_record(spec)
    if record is not None and path not in names_of(f"{FOLDER}/{record.run}"):
        logger.warning(
            "%s is damaged: it is that of run %s. It is left out.", store.address(path), record.run
        )
        return None
    if record is None and spec is not None:
        logger.warning(
            "%s was written by another version of curation. The run is left out.",
            store.address(path),
        )
    return record


def read_runs(store: Store) -> Iterator[RunRecord]:
    """Yield the runs, the one that started last first. Records that cannot be read are left out."""
    for path in run_paths(store.storage.files(FOLDER)).values():
        record = read_record(store, path)
        if record is not None:
            yield record


def find_run(store: Store, name: str) -> RunRecord:
    """Return the run with a tag or a name, or with a name that begins so, if it is the only one.

    Raises:
        StoreError: there is no such run, or several; the message lists them. Or there is no store, or
            the tag is damaged.
    """
    tag = find_tag(store, name)
    name = tag.run if tag else name
    paths = run_paths(store.storage.files(FOLDER))
    if not paths:
        check_is_store(store.storage)
    matching = [name] if name in paths else sorted(n for n in paths if n.startswith(name))
    if len(matching) == 1:
        record = read_record(store, paths[matching[0]])
        if record is None:
            raise StoreError(
                f"The record of run {matching[0]} in {store.uri} is damaged, or was written "
                "by another version of curation",
                fix="Run its recipe again",
            )
        return record
    if matching:
        message = f"{len(matching)} runs in {store.uri} begin with {name!r}"
        raise StoreError(Detail(message, "run", name, matching, "Write more of its name"))
    message = f"no run in {store.uri} has the tag {name!r} or a name that begins so"
    fix = "`curation runs` lists all of them, and `curation tag` the tags"
    valid = [*tag_names(store)[:SHOWN_NAMES], *list(paths)[:SHOWN_NAMES]]
    raise StoreError(Detail(message, "run", name, valid, fix))


def latest_run(
    store: Store, table: str, fingerprint: str | None = None, recipe: str | None = None
) -> RunRecord | None:
    """Return the finished run that started last and has a table.

    Args:
        store: where to look.
        table: the table.
        fingerprint: only runs of this fingerprint count.
        recipe: runs of the recipe with this name come before those of others, which may be the same
            recipe by another name.
    """
    other = None
    for record in read_runs(store):
        same = fingerprint in (None, record.fingerprint)
        if record.state == "finished" and table in record.tables and same:
            if recipe in (None, record.recipe):
                return record
            other = other or record
    return other
