"""The files of a source: where they are, how they are opened, and how rows refer to them."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from curation.engine.params_base import fingerprint_params
from curation.errors import StoreError
from curation.media.files.location import OutsideFolderError, escape, inside, open_location
from curation.stages.ingest.sources.source import Source
from curation.store.digest import digest


@dataclass(frozen=True)
class ImageFile:
    """One image file of a folder.

    Attributes:
        name: its path within the folder.
        size: in bytes.
        mtime_ns: its modification time.
        text: name of the file with its caption.
        text_mtime_ns: modification time of that file.
    """

    name: str
    size: int
    mtime_ns: int
    text: str | None = None
    text_mtime_ns: int | None = None


@dataclass(frozen=True)
class SourceFile:
    """One file of a source; of a folder of images, a part of its files.

    Attributes:
        source: the source.
        root: folder of the source, an absolute local path or a URI.
        name: path of the file within that folder; empty for a folder of images.
        size: in bytes.
        mtime_ns: modification time.
        query: query string of the URI, if it has one.
        members: images of a part of a folder.
    """

    source: Source
    root: str
    name: str
    size: int
    mtime_ns: int
    query: str = ""
    members: tuple[ImageFile, ...] = field(default=(), repr=False)

    @property
    def content(self) -> list[Any]:
        """What memos depend on."""
        # A link may lead to another folder in the next run.
        root = os.path.realpath(self.root) if self.is_local else self.root
        return [fingerprint_params(self.source), root, self.query, self.version]

    @property
    def version(self) -> str:
        """Digest of names, sizes and modification times: the file is not read for it."""
        members = [[m.name, m.size, m.mtime_ns, m.text, m.text_mtime_ns] for m in self.members]
        return digest([self.name, self.size, self.mtime_ns, members])

    @property
    def is_local(self) -> bool:
        """Whether the source is on a file system of this machine."""
        return "://" not in self.root

    @property
    def display_name(self) -> str:
        """Path or URI of the file, for messages."""
        return f"{self.root}/{self.name}".rstrip("/")

    @property
    def location(self) -> str:
        """Location of the file. A list may be a symbolic link, but the files that it names may not."""
        if self.is_local:
            return escape(os.path.realpath(Path(self.root, self.name)))
        return f"{self.root}/{quote(self.name)}{self.query}"

    def location_of(self, name: str) -> str:
        """Return the location of the file `name` within the folder of the source.

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
        """Open this file, or another file of the folder, for random access.

        Raises:
            StoreError: it cannot be opened.
        """
        path = self.name if name is None else name
        try:
            if self.is_local:
                return pa.OSFile(str(Path(self.root, path)), "rb")
            return open_location(self.location if name is None else self.location_of(name))
        except OSError as error:
            raise StoreError(
                f"Source {self.source.name!r}: {self.root}/{path} cannot be read ({error}). "
                "Put the file back, or remove it from the source, and run again."
            ) from error
