"""Whether the image files that rows of a list name have changed: they are looked at in every run.

A file may change, and so may a link on the way to it, as `latest` beside `v1` and `v2`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple
from urllib.parse import unquote

from pyarrow import fs

from curation.masking import mask_address
from curation.media.files.file_cache import changed_ns
from curation.media.files.location import (
    OutsideFolderError,
    escape,
    filesystem_of,
    open_location,
    shown,
    unescape,
)
from curation.stages.ingest.sources.source_file import SourceFile
from curation.store.digest import digest
from curation.store.fragment import Fragment
from curation.store.storage.reader import raising_os_errors

_URIS_PER_REQUEST = 1000
_ROWS_PER_BATCH = 65_536


def other_places(staged: Fragment, paths: str, file: SourceFile) -> str | None:
    """Return a digest of where the paths of a list lead now; None if they lead where they did.

    Rows hold the place that a path led to when the list was read. The list may be unchanged, and a link
    on the way may lead elsewhere.

    Args:
        staged: the rows of the list.
        paths: the column with the paths as the list has them, escaped.
        file: the list.
    """
    if not file.source.names_files or "://" in file.image_root:
        return None
    folders: dict[str, str] = {}
    for path, location in _named(staged, paths):
        if not _leads_to(file, path, location, folders):
            now = hashlib.sha256()
            for other, _ in _named(staged, paths):
                now.update(f"{_place_of(file, other)}\n".encode())
            return now.hexdigest()
    return None


def _named(staged: Fragment, paths: str) -> Iterator[tuple[str, str | None]]:
    """Yield the path and the location of each row that names a file."""
    for batch in staged.batches([paths, "location"], rows=_ROWS_PER_BATCH):
        columns = (batch.column(name).to_pylist() for name in (paths, "location"))
        for path, location in zip(*columns, strict=True):
            if path is not None:
                yield unescape(path), location


def _leads_to(file: SourceFile, path: str, location: str | None, folders: dict[str, str]) -> bool:
    """Whether a path leads to a location. Links in a folder are followed once for all of its files."""
    name = path.rpartition("/")[2]
    folder = path.removesuffix(name)
    if location is not None and name not in ("", ".", ".."):
        if folder not in folders:
            folders[folder] = os.path.realpath(os.path.join(file.image_root, folder))  # noqa: PTH118
        place = os.path.join(folders[folder], name)  # noqa: PTH118
        if escape(place) == location and not os.path.islink(place):  # noqa: PTH114
            return True
    return _place_of(file, path) == location


def _place_of(file: SourceFile, path: str) -> str | None:
    try:
        return file.location_of(path)
    except OutsideFolderError:
        return None


class NamedFiles(NamedTuple):
    """The image files that staged rows name.

    Attributes:
        digest: of the size and the time of change of each; None if no row names a file.
        files: number of rows that name one.
        missing: number of those whose file is not there, or cannot be asked for.
        example: the place of the first, and why one that is a URI cannot be opened.
    """

    digest: str | None = None
    files: int = 0
    missing: int = 0
    example: str = ""


def named_files(staged: Fragment) -> NamedFiles:
    """Look at each image file that staged rows name.

    A file that is missing counts as such, so that its row is read once it is there. Images inside
    other files (a table, a tar) are not looked at: the source lists those files.
    """
    locations = [
        location
        for batch in staged.batches(["location"], rows=_ROWS_PER_BATCH)
        for location in batch.column(0).to_pylist()
        if location is not None and "#" not in location
    ]
    if not locations:
        return NamedFiles()
    states = [
        state
        for is_uri, group in groupby(locations, key=lambda location: "://" in location)
        for state in (_remote_states(list(group)) if is_uri else map(_local_state, group))
    ]
    missing = states.count(None)
    first = locations[states.index(None)] if missing else ""
    example = _with_problem(first) if "://" in first else shown(unescape(first))
    return NamedFiles(digest([locations, states]), len(locations), missing, example)


def _with_problem(uri: str) -> str:
    """Return a URI, and why it cannot be opened: credentials may be wrong, and no file be missing."""
    try:
        open_location(uri).close()
    except (OSError, ValueError) as error:
        problem = str(error).partition("\n")[0]
        return mask_address(f"{uri} ({problem})")
    return mask_address(uri)


def _local_state(location: str) -> list[int] | None:
    try:
        status = os.stat(unescape(location))  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return [status.st_size, changed_ns(status)]


def _remote_states(uris: Sequence[str]) -> Iterator[list[int | str] | None]:
    for start in range(0, len(uris), _URIS_PER_REQUEST):
        part = uris[start : start + _URIS_PER_REQUEST]
        try:
            filesystem, paths = _paths(part)
            with raising_os_errors():
                infos = filesystem.get_file_info(paths)
        except (OSError, ValueError):
            # Fetch says of each row why it cannot be read.
            yield from (None for _ in part)
            continue
        for info in infos:
            is_file = info.type == fs.FileType.File
            yield [info.size or 0, info.mtime_ns or 0] if is_file else None


def _paths(uris: Sequence[str]) -> tuple[fs.FileSystem, list[str]]:
    """Return the file system of URIs with a common root, and the paths of the files within it.

    To open a file system may take a request, so that is done once.
    """
    plain = [uri.partition("?")[0] for uri in uris]
    folders = [uri.rpartition("/")[0] + "/" for uri in plain]
    start = os.path.commonprefix(folders).rindex("/") + 1  # noqa: RUF071
    filesystem, path = filesystem_of(uris[0])
    names = [unquote(uri[start:]) for uri in plain]
    base = path.removesuffix(names[0])
    return filesystem, [base + name for name in names]
