"""Locations: where the bytes of a row are, and how they are opened."""

from __future__ import annotations

import os
from functools import lru_cache

import fsspec
import pyarrow as pa
from pyarrow import fs


class OutsideFolderError(ValueError):
    """A path that leaves the folder of its list."""


def escape(name: str) -> str:
    """Return `name` without a bare `#`, to stand in a location."""
    return name.replace("%", "%25").replace("#", "%23")


def unescape(name: str) -> str:
    """Undo `escape`."""
    return name.replace("%23", "#").replace("%25", "%")


def split_location(location: str) -> tuple[str, str | None]:
    """Return the file of a location and what it names inside, if anything."""
    place, mark, inside = location.partition("#")
    return place, unescape(inside) if mark else None


def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path within it: Arrow's own, or what fsspec knows.

    Raises:
        ValueError: nobody knows it.
        OSError: it cannot be reached.
    """
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
        return found
    except pa.ArrowInvalid as unknown:
        try:
            own, path = fsspec.core.url_to_fs(uri)
        except (ValueError, ImportError) as error:
            raise ValueError(f"{unknown}; {error}") from error
        return fs.PyFileSystem(fs.FSSpecHandler(own)), path


def open_place(place: str) -> pa.NativeFile:
    """Open the file part of a location for random access.

    Raises:
        OSError: it cannot be opened.
        OutsideFolderError: a link now stands where ingest found none.
    """
    if "://" in place:
        filesystem, path = filesystem_of(place)
        return filesystem.open_input_file(path)
    path = unescape(place)
    if os.path.realpath(path) != path:
        raise OutsideFolderError(path)
    return pa.OSFile(path, "rb")


@lru_cache(maxsize=64)
def _real_folder(root: str) -> str:
    return os.path.realpath(root)


def inside(root: str, name: str) -> str:
    """Return the real path of `name` within the local folder `root`.

    Raises:
        OutsideFolderError: it is not in the folder, or a link leads out of it.
    """
    if "\x00" in name or "://" in name:
        raise OutsideFolderError(name)
    home = _real_folder(root)
    found = os.path.realpath(os.path.join(home, name))  # noqa: PTH118
    if not found.startswith(home.rstrip("/") + "/"):
        raise OutsideFolderError(name)
    return found
