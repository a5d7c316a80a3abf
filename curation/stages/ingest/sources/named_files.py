"""Whether the image files that rows of a list name have changed: they are looked at in every run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from urllib.parse import unquote

from pyarrow import fs

from curation.media.files.file_cache import changed_ns
from curation.media.files.location import filesystem_of, unescape
from curation.store.digest import digest
from curation.store.fragment import Fragment

_URIS_PER_REQUEST = 1000


def named_files(staged: Fragment) -> str | None:
    """Return a digest of the size and the time of change of each image file that staged rows name.

    A file that is missing counts as such, so that its row is read once it is there. Images inside
    other files (a table, a tar) are not looked at: the source lists those files.

    Returns:
        None if no row names a file.
    """
    locations = [
        location
        for batch in staged.batches(["location"], rows=65_536)
        for location in batch.column(0).to_pylist()
        if location is not None and "#" not in location
    ]
    if not locations:
        return None
    states = [
        state
        for is_uri, group in groupby(locations, key=lambda location: "://" in location)
        for state in (_remote_states(list(group)) if is_uri else map(_local_state, group))
    ]
    return digest([locations, states])


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
    names = [uri[start:] for uri in plain]
    if not path.endswith(names[0]):
        # File systems of Arrow decode URIs, those of fsspec do not.
        names = [unquote(name) for name in names]
    base = path.removesuffix(names[0])
    return filesystem, [base + name for name in names]
