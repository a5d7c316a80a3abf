"""Locations: where the bytes of a row are, and how they are opened.

A location is a local path or a URI. `#` separates a file from the row or member inside it, so `#` and
`%` in local names are written `%23` and `%25`. URIs are percent-encoded anyway.
"""

from __future__ import annotations

import os

import fsspec
import pyarrow as pa
from pyarrow import fs


class OutsideFolderError(ValueError):
    """A path that leads out of the folder of its source."""


def escape(name: str) -> str:
    """Return a local name as it is written in a location."""
    return name.replace("%", "%25").replace("#", "%23")


def unescape(name: str) -> str:
    """Undo `escape`."""
    return name.replace("%23", "#").replace("%25", "%")


def split_location(location: str) -> tuple[str, str | None]:
    """Return the file of a location, and the row or member inside it (None for the file itself)."""
    path, mark, inside = location.partition("#")
    return path, unescape(inside) if mark else None


def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path within it: one of Arrow's, or of fsspec.

    Raises:
        ValueError: neither Arrow nor fsspec supports the scheme.
        OSError: the file system cannot be reached.
    """
    try:
        of_arrow: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
        return of_arrow
    except pa.ArrowInvalid as arrow_error:
        try:
            of_fsspec, path = fsspec.core.url_to_fs(uri)
        except (ValueError, ImportError) as error:
            raise ValueError(f"{arrow_error}; {error}") from error
        return fs.PyFileSystem(fs.FSSpecHandler(of_fsspec)), path


def open_location(file: str) -> pa.NativeFile:
    """Open the file of a location for random access.

    Args:
        file: the location without the part after `#`.

    Raises:
        OSError: it cannot be opened.
        OutsideFolderError: a part of the path has become a link since ingest read it.
    """
    if "://" in file:
        filesystem, path = filesystem_of(file)
        return filesystem.open_input_file(path)
    path = unescape(file)
    if os.path.realpath(path) != path:
        raise OutsideFolderError(path)
    return pa.OSFile(path, "rb")


def inside(root: str, name: str) -> str:
    """Return the real path of `name` within the local folder `root`.

    Raises:
        OutsideFolderError: it is not in the folder, or a link leads out of it.
    """
    if "\x00" in name or "://" in name:
        raise OutsideFolderError(name)
    folder = os.path.realpath(root)
    path = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
    if not path.startswith(folder.rstrip("/") + "/"):
        raise OutsideFolderError(name)
    return path
