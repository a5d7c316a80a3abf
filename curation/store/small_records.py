"""Checks whether the small records of a store can be read: of runs, steps, tags, takedowns and keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from curation.store import tombstones
from curation.store.layout import is_written_here
from curation.store.problem import Problem, unreadable
from curation.store.run_record import FOLDER as RUNS
from curation.store.run_record import RUNNING_SUFFIX, SUFFIX
from curation.store.sealed_json import unseal
from curation.store.step_log import StepLog
from curation.store.store import Store
from curation.store.tags import FOLDER as TAGS
from curation.store.used_work import FOLDER as USED

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

STEPS, KEYS = "steps", "keys"
_NAMES = {
    RUNS: ("run", "state"),
    TAGS: ("name", "created"),
    STEPS: ("number", "kind"),
    tombstones.FOLDER: ("name", "hashes"),
    tombstones.HITS: ("name", "pairs"),
    KEYS: ("key", "version"),
    USED: ("step", "memos"),
}
"""The field that says which file of a folder a record is, and one that no other kind of record has."""


def check_notes(store: Store, name: str) -> list[Problem]:
    """Return what is wrong with the keys of a table, or with the notes of a stage, `work/<stage>`."""
    folder = f"{name}/{USED}" if name.startswith("work/") else f"tables/{name}/{KEYS}"
    return list(_damaged(store, known_files(store, folder, ".json"), name))


def check_records(store: Store) -> Iterator[Problem]:
    """Yield what is wrong with records that belong to no table."""
    yield from _damaged(store, known_files(store, RUNS, ".json"))
    yield from _check_steps(store)
    for problem in _damaged(store, files_ending(store, TAGS, ".json")):
        # Not to be set aside: gc would remove what the tag keeps, without a word.
        name = PurePosixPath(problem.path).stem
        yield _kept(problem, f"curation tag {name} --delete --store STORE, then tag the run again")
    yield from _check_takedowns(store)


def _check_steps(store: Store) -> Iterator[Problem]:
    """Yield the last entries of logs that cannot be read. Nothing reads earlier ones."""
    for name in store.storage.folders(STEPS):
        log = StepLog(store, name)
        numbers = log.numbers()
        # Not to be set aside: the entry before it would then count, and may be an old lease.
        for problem in _damaged(store, [log.path(n) for n in numbers[-1:]]):
            yield replace(problem, to_set_aside=())


def _check_takedowns(store: Store) -> Iterator[Problem]:
    """Yield what stops all readers and runs, because nobody knows what was taken down."""
    names = files_ending(store, tombstones.FOLDER, ".json")
    if names and tombstones.KEY not in names:
        yield Problem(tombstones.KEY, "is missing", mend=tombstones.BACKUP)
    for folder in (tombstones.FOLDER, tombstones.HITS, tombstones.REMOVED):
        for problem in _damaged(store, files_ending(store, folder, ".json")):
            yield _kept(problem, tombstones.BACKUP)


def _kept(problem: Problem, mend: str) -> Problem:
    """Return a problem of a file that must stay where it is."""
    return replace(problem, to_set_aside=(), mend=problem.mend or mend)


def files_ending(store: Store, folder: str, ending: str) -> list[str]:
    """Return the paths of the files in a folder whose names end so, in order."""
    return sorted(path for path in store.storage.files(folder) if path.endswith(ending))


def known_files(store: Store, folder: str, ending: str) -> list[str]:
    """Return the same without the files that curation did not write."""
    return list(filter(is_written_here, files_ending(store, folder, ending)))


def _damaged(store: Store, paths: Iterable[str], table: str = "") -> Iterator[Problem]:
    """Yield the files with a checksum that cannot be read, or do not hold what was written."""
    for path in paths:
        try:
            _check_name(path, unseal(store.storage.read(path) or b""))
        except (ValueError, OSError) as error:
            # It may have vanished since it was listed.
            if store.storage.status(path) is not None:
                yield unreadable(store, path, error, table)


def _check_name(path: str, spec: Any) -> None:
    """Raise ValueError if a record is that of another file."""
    fields = None if path == tombstones.KEY else _NAMES.get(_kind_of(path))
    if fields is None:
        return
    if not isinstance(spec, dict) or not spec.keys() >= {*fields}:
        raise ValueError(f"it is of another kind, without {' and '.join(fields)}")
    field, written = fields[0], spec[fields[0]]
    name = PurePosixPath(path).name.removesuffix(RUNNING_SUFFIX).removesuffix(SUFFIX)
    if name != (f"{written:08d}" if isinstance(written, int) else written):
        raise ValueError(f"it is that of {field} {written!r}")
    folder = PurePosixPath(path).parent.name
    if field == "number" and spec.get("step", folder) != folder:
        raise ValueError(f"it is that of step {spec['step']!r}")


def _kind_of(path: str) -> str:
    """Return the folder of a record without the names of a table, a stage or a step in it."""
    first, *between, _ = path.split("/")
    if first == STEPS:
        return first
    return between[-1] if first in ("tables", "work") else "/".join([first, *between])
