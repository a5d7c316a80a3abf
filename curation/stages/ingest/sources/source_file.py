"""The files of a source: where they are, how they are opened, and how rows refer to them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa

from curation.engine.params_base import fingerprint_params
from curation.errors import StoreError
from curation.masking import mask_address
from curation.media.files.file_cache import changed_ns
from curation.media.files.limits import EXPANSION_BYTES
from curation.media.files.location import (
    OutsideFolderError,
    as_spelled,
    escape,
    held_bytes,
    inside,
    open_local,
    open_location,
    shown,
    unescape,
)
from curation.media.web.params import OutboundParams
from curation.secrets import note_secrets
from curation.stages.ingest.sources.source import Source
from curation.store.digest import digest

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class FileInfo(NamedTuple):
    """A file: its path within a folder, size in bytes and modification time."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ImageFile:
    """One file of a folder of images.

    Attributes:
        name: its path within the folder.
        size: in bytes.
        mtime_ns: its modification time.
        sidecars: files of the same name with another ending: its caption and metadata.
    """

    name: str
    size: int
    mtime_ns: int
    sidecars: tuple[FileInfo, ...] = ()


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
        beside: files that hold the images of its rows.
        outbound: how a file on the web is requested.
    """

    source: Source
    root: str
    name: str
    size: int
    mtime_ns: int
    query: str = ""
    members: tuple[ImageFile, ...] = field(default=(), repr=False)
    beside: tuple[FileInfo, ...] = field(default=(), repr=False)
    outbound: OutboundParams = field(default=OutboundParams(), repr=False)

    @property
    def content(self) -> list[Any]:
        """What memos depend on."""
        # A link may lead to another folder in the next run.
        roots = [_real(root) for root in dict.fromkeys((self.root, self.image_root))]
        return [fingerprint_params(self.source), *roots, self.query, self.version]

    @property
    def version(self) -> str:
        """Digest of names, sizes and modification times: the file is not read for it."""
        members = [
            [m.name, m.size, m.mtime_ns, [list(sidecar) for sidecar in m.sidecars]]
            for m in self.members
        ]
        beside = [[list(file) for file in self.beside]] if self.beside else []
        return digest([self.name, self.size, self.mtime_ns, members, *beside])

    @property
    def is_local(self) -> bool:
        """Whether the source is on a file system of this machine."""
        return "://" not in self.root

    @property
    def held_bytes(self) -> int:
        """Its size, or less if it is a local file with holes; see `location.held_bytes`."""
        size = self.size or 0
        if size <= EXPANSION_BYTES or not self.is_local:
            return size
        with self.open() as stream:
            return held_bytes(stream, size)

    @property
    def image_root(self) -> str:
        """Folder of the image files that rows name: an absolute local path or a URI."""
        root = self.source.root
        if root is None:
            return self.root
        parts = urlsplit(root)
        if parts.scheme in ("file", "local"):
            return unquote(parts.path)
        return root.rstrip("/") if "://" in root else str(Path(root).absolute())

    @property
    def display_name(self) -> str:
        """Path or URI of the file, for messages."""
        # A line break would let a name pass for another line of a message.
        return shown(f"{self.root}/{self.name}".rstrip("/")).replace("\n", r"\n")

    @property
    def label(self) -> str:
        """The source and the file, for messages."""
        return f"Source {self.source.name!r}: {self.display_name}"

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns that the names of folders hold, as Spark and Hive write them: `lang=en`."""
        return dict(_partitions(self.name))

    @property
    def location(self) -> str:
        """Location of the file, without links."""
        if self.is_local:
            return escape(os.path.realpath(Path(self.root, self.name)))
        return mask_address(self._address)

    @property
    def _address(self) -> str:
        if self.source.is_web:
            return self.source.address
        return f"{self.root}/{quote(self.name)}{self.query}"

    def url_of(self, name: str) -> str | None:
        """Return the URL of the file `name` within the folder of a list on the web; None for others.

        Such images are requested as those of all lists are. The query of the list is left out: it may
        be a secret that stands for the list alone.

        Raises:
            OutsideFolderError: it is not in the folder.
        """
        return f"{self.root}/{_quoted(_clean(name))}" if self.source.is_web else None

    def location_of(self, name: str) -> str:
        """Return the location of the file `name` within the folder of the images.

        Raises:
            OutsideFolderError: it is not in the folder, or a link leads out of it.
        """
        root = self.image_root
        if "://" not in root:
            path = as_spelled(root, _local_path(name))
            return escape(inside(root, path, self.source.follow_links))
        name = name.removeprefix(f"{root}/")
        return f"{root}/{_quoted(_clean(name))}{self.query if root == self.root else ''}"

    def container_versions(self) -> dict[str, list[int]]:
        """Return `version_of` of the files that images are in, by location: fetch reads them later."""
        files: list[tuple[str | None, int | None]] = [] if self.members else [(None, self.size)]
        files += [(file.name, file.size) for file in self.beside if file.name.endswith(".tar")]
        versions: dict[str, list[int]] = {}
        for name, size in files:
            # Reading a file that has gone says so.
            with suppress(OSError, OutsideFolderError):
                location = self.location if name is None else self.location_of(name)
                if self.is_local:
                    versions[location] = _local_version(location)
                elif size is not None:
                    # Not every file system says it.
                    versions[location] = [size, 0]
        return versions

    def open(self, name: str | None = None) -> pa.NativeFile:
        """Open this file, or another file of the folder, for random access.

        Raises:
            StoreError: it cannot be opened, or has become a link that leads out of the folder.
        """
        path = self.name if name is None else name
        # For messages of libraries on a worker, which has not read the recipe.
        note_secrets(f"{self.root}{self.query}")
        try:
            if self.is_local:
                return open_local(self._real_path(path), follow_links=False)
            address = self._address if name is None else self.location_of(name)
            return open_location(address, self.outbound)
        except (OSError, OutsideFolderError) as error:
            is_denied = isinstance(error, PermissionError)
            first = "Give this user the right to read it" if is_denied else "Put the file back"
            raise StoreError(
                f"Source {self.source.name!r}: {shown(f'{self.root}/{path}')} cannot be read "
                f"({mask_address(str(error))})",
                fix=f"{first}, or remove it from the source, and run again",
            ) from error

    def _real_path(self, name: str) -> str:
        """Return the path of a file of the folder without links, so that none is followed later."""
        return inside(self.root, name, self.source.follow_links)


def _local_version(location: str) -> list[int]:
    status = Path(unescape(location)).stat()
    return [status.st_size, changed_ns(status)]


def _real(root: str) -> str:
    return root if "://" in root else os.path.realpath(root)


def _local_path(name: str) -> str:
    """Return a path in place of a `file:` address, as some programs write it."""
    return unescape(name.removeprefix("file://")) if name.startswith("file:///") else name


def _quoted(name: str) -> str:
    # A list may hold halves of surrogate pairs, which no encoding has: no file has such a name.
    return quote(name, errors="surrogatepass")


def _clean(name: str) -> str:
    """Return the path of a file within a folder that is not local."""
    clean = posixpath.normpath(name)
    if clean.startswith(("/", "../")) or clean in ("..", ".") or "://" in name:
        raise OutsideFolderError(name)
    return clean


def _partitions(name: str) -> Iterator[tuple[str, str | None]]:
    for folder in name.split("/")[:-1]:
        column, equals, value = folder.partition("=")
        if column and equals:
            yield unquote(column), None if value == _HIVE_NULL else unquote(value)
