"""The files of a source: where they are, how to open them, and how rows point into them.

A location is a local path or a URI. `#` parts a file from the row or member inside it, so `#` and
`%` in local names are written `%23` and `%25`; URIs are percent-encoded anyway.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pyarrow as pa
from pyarrow import fs

from curation.digest import digest
from curation.errors import StoreError
from curation.ingest.params import Source


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


@dataclass(frozen=True)
class Member:
    """One image file of a folder, with the text beside it; name is its path within the folder."""

    name: str
    size: int
    mtime_ns: int
    text: str | None = None
    text_mtime_ns: int | None = None


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, or for a folder of images a part of its files.

    `root` is the source's folder: an absolute local path, or a URI (with `query` behind it);
    `name` is the file's path within it.
    """

    source: Source
    root: str
    name: str
    size: int
    mtime_ns: int
    query: str = ""
    members: tuple[Member, ...] = field(default=(), repr=False)

    @property
    def content(self) -> list[Any]:
        """What memos depend on."""
        spec = self.source.model_dump(mode="json", exclude={"count"})
        return [spec, self.root, self.query, self.origin]

    @property
    def origin(self) -> str:
        """Digest of what is known of the bytes without reading them."""
        members = [[m.name, m.size, m.mtime_ns, m.text, m.text_mtime_ns] for m in self.members]
        return digest([self.name, self.size, self.mtime_ns, members])

    @property
    def is_local(self) -> bool:
        """Whether the source is on this machine's own file system."""
        return "://" not in self.root

    @property
    def shown(self) -> str:
        """What people call the file."""
        return f"{self.root}/{self.name}".rstrip("/")

    @property
    def location(self) -> str:
        """Where the file is. A list may be a link to anywhere; what it names may not."""
        if self.is_local:
            return escape(os.path.realpath(Path(self.root, self.name)))
        return f"{self.root}/{quote(self.name)}{self.query}"

    def place(self, name: str) -> str:
        """Return the location of the file `name` within the source's folder.

        Raises:
            OutsideFolderError: it is not in the folder, or a link leads out of it.
        """
        if self.is_local:
            return escape(inside(self.root, name))
        clean = posixpath.normpath(name)
        if clean.startswith(("/", "../")) or clean in ("..", ".") or "://" in name:
            raise OutsideFolderError(name)
        return f"{self.root}/{quote(clean)}{self.query}"

    def open(self, name: str | None = None) -> pa.NativeFile:
        """Open this file, or another in the folder, for random access.

        Raises:
            StoreError: it cannot be opened.
        """
        wanted = self.name if name is None else name
        try:
            if self.is_local:
                return pa.OSFile(str(Path(self.root, wanted)), "rb")
            return open_place(self.location if name is None else self.place(name))
        except OSError as error:
            raise StoreError(
                f"Source {self.source.name!r}: {self.root}/{wanted} cannot be read ({error}). "
                "Put the file back, or take it out of the source, and run again."
            ) from error


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
