"""Compares everything that a store holds with what was recorded when it was written.

What is checked: the size and the SHA-256 of every file that a manifest or a completion record names;
that manifests and records can be read, and what `small_records` lists; that the manifests of all
versions that a run names are there; reports; and the files by which readers open tables. Files that
nothing names are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from curation.errors import StoreError, unknown
from curation.progress import ProgressBar
from curation.store.manifest import FileEntry, FragmentRecord
from curation.store.manifest_file import OtherFormatError, read_manifest, record_from_json
from curation.store.open_files import check_open_files
from curation.store.problem import Problem, problem_of, unreadable
from curation.store.reports import check_reports
from curation.store.run_log import read_runs
from curation.store.run_record import RunRecord
from curation.store.small_records import check_notes, check_records, known_files
from curation.store.store import DATASET, Store, manifest_path
from curation.store.tags import read_tags
from curation.store.used_work import SHARED

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

THREADS = 8
"""Files that are read at the same time; each has a few MiB in memory."""
CHUNK = 256
"""Files that are handed to the threads at once."""

T = TypeVar("T")
R = TypeVar("R")


class _Document(NamedTuple):
    """A manifest or a completion record.

    Attributes:
        path: its path.
        table: of a manifest; empty for a record.
        version: of a manifest; empty for a record.
    """

    path: str
    table: str = ""
    version: str = ""

    def records(self, store: Store) -> Sequence[FragmentRecord]:
        """Return the fragments that it names; none if it has vanished since it was listed.

        Raises:
            ValueError, OSError: it cannot be read.
        """
        content = store.storage.read(self.path)
        if content is None:
            return ()
        with suppress(OtherFormatError):
            if self.version:
                return read_manifest(content, self.table, self.version).fragments
            return (record_from_json(content, self.path),)
        return ()


@dataclass
class _Folder:
    """The records of one table, or of the work tables of one stage.

    Attributes:
        store: where they are.
        name: of the table, or `work/<stage>`.
        documents: manifests first: they name many files each.
    """

    store: Store
    name: str
    documents: Sequence[_Document]
    problems: list[Problem] = field(default_factory=list)

    def check(self, pool: ThreadPoolExecutor) -> list[Problem]:
        """Return the problems of the documents and of the files that they name."""
        damaged: dict[str, Problem] = {}
        with ProgressBar(f"verify {self.name}", len(self.documents)) as bar:
            checked: set[str] = set()
            for done, entries in enumerate(self._entries(), 1):
                new = [entry for entry in entries if entry.path not in checked]
                checked |= {entry.path for entry in new}
                for entry, problem in _by_chunks(pool, self._problem_of, new, bar.set_note):
                    if problem is not None:
                        damaged[entry.path] = problem
                bar.set_done(done)
        return self.problems + (self._named(damaged) if damaged else [])

    def _entries(self) -> Iterator[list[FileEntry]]:
        """Yield the files that each document names; note documents that cannot be read."""
        for document in self.documents:
            try:
                records = document.records(self.store)
            except (ValueError, OSError) as error:
                problem = unreadable(self.store, document.path, error, self.name)
                versions = (document.version,) if document.version else ()
                self.problems.append(replace(problem, versions=versions))
                yield []
            else:
                yield [entry for record in records for entry in record.files]

    def _problem_of(self, entry: FileEntry) -> Problem | None:
        return problem_of(self.store, entry)

    def _named(self, damaged: Mapping[str, Problem]) -> list[Problem]:
        """Return problems with the versions and fragments that name the files.

        The documents are read again: a run beside may have replaced a file and its record since.
        """
        versions: dict[str, dict[str, None]] = {path: {} for path in damaged}
        fragments: dict[str, dict[str, None]] = {path: {} for path in damaged}
        records: dict[str, dict[str, None]] = {path: {} for path in damaged}
        named = set()
        for document in self.documents:
            with suppress(ValueError, OSError):
                for record in document.records(self.store):
                    for path in {entry.path for entry in record.files} & damaged.keys():
                        named.add(path)
                        fragments[path][record.name] = None
                        if document.version:
                            versions[path][document.version] = None
                        else:
                            records[path][document.path] = None
        return [
            replace(
                damaged[path],
                table=self.name,
                versions=tuple(versions[path]),
                fragments=tuple(fragments[path]),
                # Without a version, a run may have no reason to replace the record.
                to_set_aside=(*damaged[path].to_set_aside, *records[path])
                if not damaged[path].mend and (damaged[path].to_set_aside or not versions[path])
                else (),
            )
            for path in sorted(named)
        ]


def verify_store(
    store: Store,
    tables: Collection[str] | None = None,
    set_aside: bool = False,
    versions: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Return everything that is wrong in a store.

    Args:
        store: the store.
        tables: the tables to check, or `work/<stage>` for the work tables of a stage. The default is
            everything, with the logs of steps and the records of runs.
        set_aside: rename damaged files, and the completion records that name them or files that are
            missing (`Store.set_aside`), so that running the recipe again computes them anew. Nothing
            else is changed, and without it nothing at all.
        versions: of these tables only this version is checked, without completion records.
    """
    runs = list(read_runs(store))
    problems: list[Problem] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for name in _names(store) if tables is None else sorted(tables):
            documents = _documents(store, name, (versions or {}).get(name))
            problems += _Folder(store, name, documents).check(pool)
            problems += check_notes(store, name)
    problems += check_open_files(store, tables)
    if tables is None or DATASET in tables:
        problems += check_reports(store)
    if versions is None:
        problems += _missing_manifests(store, runs, tables)
    if tables is None:
        problems += check_records(store)
    tags = _tags_by_run(store) if problems else {}
    problems = [_with_run(problem, runs, tags) for problem in problems]
    return [_set_aside(store, problem) for problem in problems] if set_aside else problems


def check_names(store: Store, names: Sequence[str]) -> list[str]:
    """Return the names of tables if the store has all of them.

    Raises:
        StoreError: it lacks one; the message lists what it has.
    """
    valid = _names(store)
    missing = [name for name in names if name not in valid]
    if missing:
        raise StoreError(*(unknown("table", name, valid, "--table") for name in missing))
    return list(names)


def _names(store: Store) -> list[str]:
    work = [f"work/{name}" for name in store.storage.folders("work")]
    return store.storage.folders("tables") + work


def _documents(store: Store, name: str, version: str | None) -> list[_Document]:
    folder = name if name.startswith("work/") else f"tables/{name}"
    manifests = known_files(store, f"{folder}/versions", ".parquet")
    if version is not None:
        return [_Document(p, name, version) for p in manifests if PurePosixPath(p).stem == version]
    records = known_files(store, f"{folder}/done", ".json")
    records += known_files(store, f"{folder}/{SHARED}/done", ".json")
    return [_Document(path, name, PurePosixPath(path).stem) for path in manifests] + [
        _Document(path) for path in records
    ]


def _by_chunks(
    pool: ThreadPoolExecutor,
    function: Callable[[T], R],
    items: Iterable[T],
    set_note: Callable[[str], None],
) -> Iterator[tuple[T, R]]:
    """Yield each item with the result of a function; few results wait in memory."""
    rest, done = iter(items), 0
    while chunk := list(islice(rest, CHUNK)):
        yield from zip(chunk, pool.map(function, chunk), strict=True)
        done += len(chunk)
        set_note(f"{done:,} files")


def _missing_manifests(
    store: Store, runs: Sequence[RunRecord], tables: Collection[str] | None
) -> Iterator[Problem]:
    """Yield the versions that a run names and that have no manifest."""
    named: dict[str, dict[str, None]] = {}
    for run in runs:
        for table, version in run.tables.items():
            if tables is None or table in tables:
                named.setdefault(table, {})[version] = None
    for table, versions in sorted(named.items()):
        for version in versions.keys() - set(store.versions(table)):
            yield Problem(manifest_path(table, version), "is missing", table, (version,))


def _tags_by_run(store: Store) -> dict[str, list[str]]:
    tags: dict[str, list[str]] = {}
    # One that is damaged is a problem of its own.
    with suppress(StoreError):
        for tag in read_tags(store):
            tags.setdefault(tag.run, []).append(tag.name)
    return tags


def _with_run(
    problem: Problem, runs: Sequence[RunRecord], tags: Mapping[str, Sequence[str]]
) -> Problem:
    """Return a problem with the recipe that mends it, and the run if that is an earlier one."""
    having = [
        run
        for run in runs
        # One that could not be restored is no run that would be the latest.
        if run.tables.get(problem.table) in problem.versions
        and (run.restored_from is None or run.state == "finished")
    ]
    latest: dict[str, str] = {}
    for run in runs:
        if run.state == "finished" and problem.table in run.tables:
            latest.setdefault(run.recipe, run.run)
    for run in having:
        if run.run >= latest.get(run.recipe, ""):
            return replace(problem, recipe=run.recipe)
    if not having:
        return problem
    names = sorted(name for run in having for name in tags.get(run.run, ()))
    first = having[0]
    return replace(problem, recipe=first.recipe, earlier_run=first.run, tags=tuple(names))


def _set_aside(store: Store, problem: Problem) -> Problem:
    moved = []
    for path in problem.to_set_aside:
        # Two problems may have the same record, and another process may do the same.
        with suppress(FileNotFoundError):
            moved.append(store.set_aside(path))
    return replace(problem, set_aside=tuple(moved))
