"""Searches a store for what was taken down, and notes which files hold any of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa

from curation.engine.table_name import TableName
from curation.errors import StoreError
from curation.progress import ProgressBar
from curation.runner.takedown.alike import alike_images, vector_files
from curation.runner.takedown.file_search import FileHits, FileSearch
from curation.store.access import set_aside_fix
from curation.store.storage.base import FileStatus
from curation.store.store import DATASET, SET_ASIDE_SUFFIX, Store
from curation.store.tombstones import Hits, Takedowns, new_name, put_hits, sorted_hashes
from curation.store.withheld import VersionsWithFiles

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FOLDERS = ("tables", DATASET, "work", "reports")
"""Where Parquet files are."""
NOT_ROWS = ("versions", "keys", "done")
"""Folders of a table with what describes its files."""
SOURCES = frozenset({"pairs", "images", "scores", DATASET, "work/ingest", "work/images"})
"""Tables that tell which pairs and images a URL, a checksum or a look stands for."""
MADE_FROM_VECTORS = frozenset({"centroids", "codebooks"})
"""Tables without ids, all of whose rows are made from all vectors."""


@dataclass
class _SearchResult:
    """What was found in all files so far."""

    pairs: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    nameless: set[str] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, hits: FileHits) -> None:
        self.pairs |= hits.pairs
        self.images |= hits.images
        self.others |= hits.others
        self.kept |= hits.kept
        if hits.rows:
            self.files.add(path)
            self.rows[table_of(path)] += hits.rows
        elif hits.is_nameless:
            self.nameless.add(path)


def search_store(
    store: Store, takedowns: Takedowns, since: float = 0.0, working: Iterable[str] = ()
) -> Hits:
    """Search all files for what was taken down, and write what was found.

    Pairs and images are found first where URLs, checksums and pictures are; then every file is searched
    for their ids.

    Args:
        store: the store.
        takedowns: all tombstones.
        since: the time now, by the clock of the storage.
        working: the stages that runs work on now.

    Returns:
        What was found; it is in the store.
    """
    files = parquet_files(store)
    sources = [path for path in files if _is_source(path)]
    result = _search(store, FileSearch(takedowns), sources, "find pairs")
    if takedowns.descriptors:
        result.images |= alike_images(store, takedowns.descriptors, vector_files(store))
    while True:
        known = _with(takedowns, result)
        orphans = _orphans(store, known, sources, result.others)
        result = _search(store, FileSearch(known, orphans.gone), files, "search")
        if _with(known, result).hashes == known.hashes:
            break
    has_vectors = bool(result.rows.keys() - {"pairs", "work/ingest"})
    if has_vectors:
        result.files |= {path for path in result.nameless if path.startswith("work/")}
    result.files |= _made_from_vectors(store, result.files, with_kept=has_vectors)
    hits = _hits(takedowns, known, orphans, result)
    names = tuple(sorted(takedowns.names))
    return _put(store, replace(hits, tombstones=names, since=since, working=tuple(sorted(working))))


def holds_any(store: Store, takedowns: Takedowns, paths: Iterable[str]) -> bool:
    """Whether one of some files holds what was taken down. Nothing is written."""
    return bool(
        _search(store, FileSearch(takedowns, takedowns.orphans), list(paths), "search").files
    )


def rows_named(store: Store, takedowns: Takedowns) -> dict[str, int]:
    """Return the rows by table that name what was taken down, where URLs and checksums are.

    Nothing is written.
    """
    sources = [path for path in parquet_files(store) if _is_source(path)]
    return dict(sorted(_search(store, FileSearch(takedowns), sources, "find pairs").rows.items()))


def search_files(store: Store, takedowns: Takedowns, paths: Iterable[str]) -> Hits:
    """Search some files for what was taken down, and write what was found."""
    orphans = _Orphans(takedowns.orphans)
    result = _search(store, FileSearch(takedowns, orphans.gone), list(paths), "search")
    return _put(store, _hits(takedowns, takedowns, orphans, result))


def _hits(takedowns: Takedowns, known: Takedowns, orphans: _Orphans, result: _SearchResult) -> Hits:
    """Return what is new in the result of a search."""
    return Hits(
        new_name(),
        pairs=tuple(sorted(known.hashes["pair"] - takedowns.hashes["pair"])),
        images=tuple(sorted(known.hashes["image"] - takedowns.hashes["image"])),
        orphans=tuple(sorted(orphans.gone - takedowns.orphans)),
        returned=tuple(sorted(orphans.returned)),
        files=tuple(sorted(result.files - takedowns.files)),
        rows=dict(sorted(result.rows.items())),
    )


def _put(store: Store, hits: Hits) -> Hits:
    put_hits(store.storage, hits)
    store.takedowns(reload=True)
    return hits


def _with(takedowns: Takedowns, result: _SearchResult) -> Takedowns:
    """Return tombstones with the hashes of the pairs and images that were found."""
    hits = Hits(
        "",
        pairs=sorted_hashes(takedowns, "pair", result.pairs),
        images=sorted_hashes(takedowns, "image", result.images),
    )
    return Takedowns(takedowns.key, takedowns.tombstones, (*takedowns.hits, hits))


class _Orphans(NamedTuple):
    """Hashes of images that pairs had that are gone.

    Attributes:
        gone: no other pair has them.
        returned: no pair had them, and one has them by now.
    """

    gone: frozenset[str]
    returned: frozenset[str] = frozenset()


def _orphans(
    store: Store, takedowns: Takedowns, sources: Collection[str], images: Collection[str]
) -> _Orphans:
    """Return which of some images, and of those without a pair so far, have no pair that is left."""
    before = takedowns.orphans
    candidates = before.union(sorted_hashes(takedowns, "image", images))
    if not candidates:
        return _Orphans(before)
    paths = [path for path in sources if table_of(path) == "images"]
    search = FileSearch(
        takedowns, wanted=lambda image: takedowns.hash_of("image", image) in candidates
    )
    kept = sorted_hashes(takedowns, "image", _search(store, search, paths, "find images").kept)
    return _Orphans(candidates.difference(kept), before.intersection(kept))


def _search(store: Store, search: FileSearch, paths: Collection[str], label: str) -> _SearchResult:
    result = _SearchResult()
    with ProgressBar(label, len(paths)) as bar:
        for done, path in enumerate(paths, 1):
            _search_file(store, search, path, result)
            bar.set_done(done)
    return result


def _search_file(store: Store, search: FileSearch, path: str, result: _SearchResult) -> None:
    """Search a file. One that was set aside, or that nobody completed, counts as one with hits.

    Raises:
        StoreError: it cannot be read.
    """
    if path.endswith(SET_ASIDE_SUFFIX):
        result.files.add(path)
        return
    try:
        result.add(path, search.search(store.storage, path))
    except FileNotFoundError:
        pass  # A run has deleted it since it was listed.
    except pa.ArrowInvalid:
        result.files.add(path)
    except OSError as error:
        raise StoreError(
            f"{store.address(path)} cannot be read ({error}), so nobody knows whether it "
            "holds what is taken down. A tombstone that was written is in force",
            fix=set_aside_fix(store.uri, "run curation gc"),
        ) from error


def _made_from_vectors(store: Store, files: Collection[str], with_kept: bool) -> set[str]:
    """Return the files of versions without ids that were made from a version with some of `files`.

    Args:
        store: the store.
        files: files that hold what was taken down.
        with_kept: also return those of versions that an earlier run trained, with rows that the tables
            of this one may not have any more.
    """
    withheld = VersionsWithFiles(store, files)
    made: set[str] = set()
    for table in store.tables():
        if TableName(table).contract in MADE_FROM_VECTORS:
            for version in store.versions(table):
                header, paths = store.header(table, version), store.paths(table, version)
                if header is None or paths is None:
                    continue
                is_kept = with_kept and _is_kept(header["stats"])
                if is_kept or withheld.has_any(header["reads"]):
                    made.update(paths.to_pylist())
    return made


def _is_kept(stats: Mapping[str, Any]) -> bool:
    """Whether a version of codebooks or centroids has those that an earlier run trained."""
    is_kept: bool = stats.get("training_vectors") == 0 or stats.get("drift", {}).get("kept", False)
    return is_kept


def parquet_files(store: Store) -> dict[str, FileStatus]:
    """Return all files with rows, by path."""
    files: dict[str, FileStatus] = {}
    for folder in FOLDERS:
        for path, status in store.storage.files(folder, recursive=True).items():
            parts = path.split("/")
            is_row_file = ".parquet" in parts[-1] and not (
                parts[0] == "tables" and parts[2] in NOT_ROWS
            )
            if is_row_file:
                files[path] = status
    return files


def table_of(path: str) -> str:
    """Return the table that a file belongs to, or `work/<name>`, or `reports`."""
    parts = path.split("/")
    return {"tables": parts[1], "work": f"work/{parts[1]}"}.get(parts[0], parts[0])


def _is_source(path: str) -> bool:
    return table_of(path) in SOURCES
