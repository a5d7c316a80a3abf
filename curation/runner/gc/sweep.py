"""Goes through the folders of a store, and removes what is not needed.

What names files goes before the files: records of runs, then the manifests and completion records of a
table, then its files. A crash in between leaves files that nothing names, which the next gc removes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from curation.runner.gc.kept_runs import SILENCE_S
from curation.runner.gc.needs import Needs
from curation.runner.gc.removal_list import RemovalList
from curation.runner.gc.step_logs import ReadLog
from curation.store.dataset_files import dataset_folder
from curation.store.layout import without_linked
from curation.store.log_place import FOLDER as LOGS
from curation.store.log_place import run_of
from curation.store.manifest_file import read_names, record_from_json
from curation.store.open_files import FOLDER as OPEN_FOLDER
from curation.store.removal import removal_log
from curation.store.reports import FOLDER as REPORTS
from curation.store.reports import in_removal_order, version_of_report
from curation.store.run_record import FOLDER as RUNS
from curation.store.storage.base import FileStatus, LeavesFiles
from curation.store.store import DATASET, SET_ASIDE_SUFFIX, Store, in_parallel, manifest_path
from curation.store.tags import FOLDER as TAGS
from curation.store.tombstones import FOLDER as TOMBSTONES
from curation.store.used_work import FOLDER as USED
from curation.store.used_work import SHARED

logger = logging.getLogger(__name__)

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

RECORDS_AT_ONCE = 10_000
FOLDERS = ("tables", DATASET, "work", REPORTS, RUNS, "steps", TAGS, LOGS, OPEN_FOLDER, TOMBSTONES)
"""The folders of a store."""


@dataclass(frozen=True)
class Sweep:
    """One pass through a store.

    Args:
        store: the store.
        needs: what must stay.
        removals: deletes and counts.
        now: the time by the clock of the storage.
        withheld: files that hold what was taken down.
    """

    store: Store
    needs: Needs
    removals: RemovalList
    now: float
    withheld: frozenset[str] = frozenset()

    def tables(self) -> list[str]:
        """Return the tables that may have something to remove."""
        tables = self.store.storage.folders("tables")
        published = [DATASET] if self.store.storage.folders(DATASET) else []
        return list(dict.fromkeys([*tables, *published]))

    def table(self, table: str) -> None:
        """Remove the versions of a table that nobody needs, then their files."""
        folder = f"tables/{table}"
        names = None if self.needs.is_working(table) else self._names(table)
        if names is None:
            self.removals.keep(table, self._files_of(table))
            return
        paths, memos = names
        needed = frozenset(paths)
        list_of = self.store.storage.files
        kept = self._remove_manifests(table)
        self.removals.decide(
            table,
            list_of(f"{folder}/keys"),
            lambda path: self.store.version_for_key(table, PurePosixPath(path).stem) in kept,
        )
        records = list_of(f"{folder}/done")
        named = {p: PurePosixPath(p).stem in memos for p in records}
        for path in self._named_otherwise(records, memos, needed):
            named[path] = False
        since = self.needs.resumable_since(table)
        kept_records = self.removals.decide(table, records, named.__getitem__, since)
        paths |= self._named(path for path in kept_records if not named[path])
        for files in self._data_of(table):
            self.removals.forced |= self.withheld.intersection(files) - needed
            self.removals.decide(table, files, paths.__contains__)
        self._delete_empty_folders(DATASET if table == DATASET else f"{folder}/data")

    def _remove_manifests(self, table: str) -> set[str]:
        """Remove manifests of versions that nobody needs; return the versions that stay."""
        versions = self.needs.versions.get(table, set())
        kept = self.removals.decide(
            table,
            self.store.storage.files(f"tables/{table}/versions"),
            lambda path: PurePosixPath(path).stem in versions,
        )
        return {PurePosixPath(path).stem for path in kept}

    def _data_of(self, table: str) -> Iterable[Mapping[str, FileStatus]]:
        storage = self.store.storage
        yield storage.files(f"tables/{table}/data")
        if table == DATASET:
            for version in storage.folders(DATASET):
                yield storage.files(dataset_folder(version))

    def _files_of(self, table: str) -> dict[str, FileStatus]:
        files: dict[str, FileStatus] = {}
        for folder in ("versions", "keys", "done"):
            files |= self.store.storage.files(f"tables/{table}/{folder}")
        for data in self._data_of(table):
            files |= data
        return files

    def _named_otherwise(
        self,
        records: Mapping[str, FileStatus],
        memos: Mapping[str, float],
        needed: frozenset[str],
    ) -> list[str]:
        """Return the records of fragments of kept versions that name files which no such version has.

        A fragment was computed again, as by `--force`, and its version was there already. Only records
        that were written after their manifests are read.
        """
        later = [
            path
            for path, status in records.items()
            if status.modified >= memos.get(PurePosixPath(path).stem, float("inf"))
        ]
        files = in_parallel(self._files_of_record, later)
        return [
            path for path, named in zip(later, files, strict=True) if not needed.issuperset(named)
        ]

    def _names(self, table: str) -> tuple[set[str], dict[str, float]] | None:
        """Return the paths of files that kept versions name, and the memos of their fragments.

        With each memo, the time when the last manifest with it was written.

        Returns:
            None if nobody knows what a version needs, because its manifest is lost or damaged.
        """
        manifests = self.store.storage.files(f"tables/{table}/versions")
        versions = self.needs.versions.get(table, set())
        paths: set[str] = set()
        memos: dict[str, float] = {}
        listed = {PurePosixPath(path).stem: path for path in manifests}
        young = {v for v, path in listed.items() if self.removals.is_young(manifests[path])}
        for version in sorted(versions | young):
            content = self.store.storage.read(manifest_path(table, version))
            if content is None and (table, version) not in self.needs.required:
                continue
            try:
                if content is None:
                    raise FileNotFoundError("it is missing")
                columns = read_names(content, table, version)
            except (ValueError, OSError) as error:
                logger.warning(
                    "Nothing of table %s is removed: a kept run needs version %s, and nobody knows "
                    "which files that has (%s). Run the recipe again, then gc.",
                    *(table, version, error),
                )
                return None
            paths.update(columns[0].to_pylist())
            written = manifests[listed[version]].modified if version in listed else 0.0
            for memo in columns[1].to_pylist():
                memos[memo] = max(written, memos.get(memo, 0.0))
        return paths, memos

    def _named(self, records: Iterable[str]) -> set[str]:
        """Return the paths of the files that completion records name."""
        wanted, paths = list(records), set()
        for start in range(0, len(wanted), RECORDS_AT_ONCE):
            for files in in_parallel(
                self._files_of_record, wanted[start : start + RECORDS_AT_ONCE]
            ):
                paths.update(files)
        return paths

    def _files_of_record(self, path: str) -> list[str]:
        content = self.store.storage.read(path)
        try:
            files = () if content is None else record_from_json(content, path).files
            return [file.path for file in files]
        except ValueError:
            # Nobody can use it, so it keeps nothing.
            return []

    def work(self, name: str) -> None:
        """Remove the unfinished work and the work tables of a stage, or of a table."""
        folder, label = f"work/{name}", f"work/{name}"
        listed = self.store.storage.files(folder, recursive=True)
        # Files of work have any name.
        files = {path: listed[path] for path in without_linked(self.store.storage, listed)}
        if name in self.needs.working or self.needs.is_working(name):
            self.removals.keep(label, files)
            return
        used = self.needs.used.get(name, set())
        since = [self.needs.resumable.get(name), self.needs.resumable_since(name)]
        oldest = min((time for time in since if time is not None), default=None)
        shared, notes, done = (f"{folder}/{f}/" for f in (SHARED, USED, "done"))

        def is_needed_record(path: str) -> bool:
            stem = PurePosixPath(path).stem
            if path.startswith(notes):
                return stem in self.needs.steps
            return stem in used or path.startswith(shared)

        records = {p: s for p, s in files.items() if _names_files(p, (shared, notes, done))}
        self._force(files, records)
        kept = self.removals.decide(label, records, is_needed_record, oldest)
        named = self._named(path for path in kept if not path.startswith(notes))
        data = {path: status for path, status in files.items() if path not in records}
        self.removals.decide(label, data, named.__contains__, oldest)
        self._delete_empty_folders(folder)

    def _force(self, files: Collection[str], records: Iterable[str]) -> None:
        """Let what holds any of what was taken down go, with the records that name it."""
        withheld = self.withheld & set(files)
        if withheld:
            naming = (p for p in records if withheld & set(self._files_of_record(p)))
            self.removals.forced |= {*withheld, *naming}

    def reports(self) -> None:
        """Remove the reports of versions of the dataset that nobody needs."""
        versions = self.needs.versions.get(DATASET, set())
        is_working = self.needs.is_working(DATASET)
        for folder in self.store.storage.folders(REPORTS):
            files = self.store.storage.files(f"{REPORTS}/{folder}", recursive=True)
            stays = is_working or version_of_report(folder) in versions
            kept = {path for path in files if stays and not path.endswith(SET_ASIDE_SUFFIX)}
            self.removals.decide("reports", in_removal_order(files), kept.__contains__)
        self._delete_empty_folders("reports")

    def logs(self, kept: Collection[str], quoting: Collection[str]) -> None:
        """Remove the log files of runs.

        Args:
            kept: runs that are kept.
            quoting: runs whose log files go nevertheless, and at once: see `quoting_runs`.
        """
        files = self.store.storage.files(LOGS)
        self.removals.forced |= {path for path in files if run_of(path) in quoting}
        self.removals.decide("logs", files, lambda path: run_of(path) in kept)

    def open_folders(self) -> None:
        """Remove the folders by which other programs open tables that no kept run of a recipe has."""

        def is_needed(path: str) -> bool:
            _, recipe, table, *_ = path.split("/")
            return self.needs.opens(recipe, table) and not path.endswith(SET_ASIDE_SUFFIX)

        for recipe in self.store.storage.folders(OPEN_FOLDER):
            files = self.store.storage.files(f"{OPEN_FOLDER}/{recipe}", recursive=True)
            self.removals.decide("open", files, is_needed)
        self._delete_empty_folders(OPEN_FOLDER)

    def step_logs(self, logs: Mapping[str, ReadLog]) -> None:
        """Remove entries of step logs but the last, and signs of life of leases that have ended."""
        for read in logs.values():
            numbers = read.log.numbers_of(read.files)[-1:]
            last = {path(n) for n in numbers for path in (read.log.path, read.log.beat_path)}
            if read.committed is not None:
                last.add(read.log.path(read.committed.number))
            needed = last | self.needs.entries
            self.removals.decide("steps", read.files, needed.__contains__)

    def removal_log(self) -> None:
        """Remove what earlier gcs left in their log. It is not counted: every gc adds to it."""
        log, lease = removal_log(self.store), self.removals.lease
        if lease is not None:
            mine = (log.path(lease.number), log.beat_path(lease.number))
            files = self.store.storage.files(log.folder)
            old = [p for p, s in files.items() if p not in mine and not self.removals.is_young(s)]
            self.store.storage.delete(old)

    def leftovers(self) -> None:
        """Remove what processes left that ended while they wrote a file or tried the storage out.

        And records of runs that were set aside.
        """
        old = self.now - SILENCE_S
        storage = self.store.storage
        runs = storage.files(RUNS).items()
        self.removals.remove("leftovers", {p: s for p, s in runs if p.endswith(SET_ASIDE_SUFFIX)})
        probes = {p: s for p, s in storage.files("").items() if p.startswith("probe-")}
        self.removals.remove("leftovers", probes, old)
        if isinstance(storage, LeavesFiles):
            for folder in FOLDERS:
                self.removals.remove("leftovers", storage.leftovers(folder), old)
            root = storage.leftovers("").items()
            probes = {
                path: status for path, status in root if path.lstrip(".").startswith("probe-")
            }
            self.removals.remove("leftovers", probes, old)

    def _delete_empty_folders(self, folder: str) -> None:
        storage = self.store.storage
        if self.removals.lease is not None and isinstance(storage, LeavesFiles):
            storage.delete_empty_folders(folder)


def _names_files(path: str, folders: tuple[str, str, str]) -> bool:
    """Whether a file of a work folder is a record, or a note of records."""
    shared, notes, done = folders
    return path.startswith((notes, done, f"{shared}done/"))
