"""The files of a source: where they are, how to open them, and how rows point into them.

A location is a local path or a URI. `#` parts a file from the row or member inside it, so `#` and
`%` in local names are written `%23` and `%25`; URIs are percent-encoded anyway.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from curation.engine.digest import digest
from curation.errors import StoreError
from curation.media.files.location import OutsideFolderError, escape, inside, open_place
from curation.stages.ingest.sources.source import Source


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
