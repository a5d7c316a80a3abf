"""Which files of a store curation wrote, by their names.

People keep notes beside tables, other programs leave files of theirs, and a command may be given a
wrong folder. What has none of these names is never removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from curation.errors import Detail, StoreError, start_of_paths
from curation.store.storage.base import Storage

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

TAG_NAME = "[a-z0-9][a-z0-9._-]{0,99}"
_HEX = "[0-9a-f]"
_DIGEST, _KEY = f"{_HEX}{{32}}", f"{_HEX}{{16}}"
_RUN = rf"\d{{8}}T\d{{6}}\.\d{{6}}Z-{_HEX}{{6}}"
_DATA = rf"[^/]+\.{_HEX}{{12}}\.parquet"
_PART = r"part-\d+(-\d+)?\.parquet"
_NAMES = (
    rf"tables/[^/]+/versions/{_DIGEST}\.parquet",
    rf"tables/[^/]+/(keys|done)/{_DIGEST}\.json",
    rf"tables/[^/]+/data/({_DATA}|{_DIGEST}-{_PART})",
    rf"dataset/{_DIGEST}/{_PART}",
    rf"work/[^/]+/(shared/)?(done/{_DIGEST}\.json|data/{_DATA})",
    rf"work/[^/]+/used/{_DIGEST}\.json",
    rf"work/[^/]+/{_DIGEST}/.+",
    rf"reports/{_DIGEST}(-{_KEY})?/(report\.html|composition\.parquet|(made-from|checksums)\.json)",
    r"open/[^/]+/[^/]+/metadata/(v\d+\.metadata\.json|version-hint\.text)",
    rf"open/[^/]+/[^/]+/metadata/\d+-{_KEY}-[0-9a-f-]{{36}}-(files\.avro|list\.avro|published\.json)",
    rf"runs/{_RUN}(\.running)?\.json",
    rf"logs/{_RUN}\.log(\.\d+)?",
    rf"steps/({_DIGEST}|gc)/\d{{8,}}\.(json|beat)",
    rf"tags/{TAG_NAME}\.json",
    rf"probe-{_DIGEST}",
)
_WRITTEN = re.compile(rf"({'|'.join(_NAMES)})(\.damaged)?|(.+/)?[^/]+\.{_DIGEST}\.tmp", re.DOTALL)
_REPORTS = re.compile(rf"{_DIGEST}(-{_KEY})?")
_PARTS = frozenset({"runs", "steps", "tables", "tombstones"})
"""Folders of which every store has one."""


def is_written_here(path: str) -> bool:
    """Whether a path within a store is that of a file which curation writes, and may remove again."""
    return _WRITTEN.fullmatch(path) is not None


def without_linked(storage: Storage, paths: Iterable[str]) -> list[str]:
    """Return the files to which no link within the store leads: it may lead to what others need.

    The folders of a store themselves may be links, as `work` to another disk.
    """
    if not storage.is_local:
        return list(paths)
    linked: dict[str, bool] = {}

    def is_linked(folder: str) -> bool:
        if "/" not in folder:
            return False
        if folder not in linked:
            above = is_linked(folder.rpartition("/")[0])
            linked[folder] = above or Path(storage.root, folder).is_symlink()
        return linked[folder]

    return [path for path in paths if not is_linked(str(PurePosixPath(path).parent))]


def is_report_folder(name: str) -> bool:
    """Whether a folder of `reports` has the name of a report."""
    return _REPORTS.fullmatch(name) is not None


def check_is_store(storage: Storage) -> None:
    """Check that there is a store, for commands that must not make a new one.

    Raises:
        StoreError: there is none at the address.
    """
    folders = storage.folders("")
    if _PARTS.isdisjoint(folders):
        raise StoreError(
            Detail(
                f"there is no store at {storage.uri}: no run has written one there",
                "--store",
                storage.uri,
                fix=f"Name the store of a run. {start_of_paths()}",
            )
        )
