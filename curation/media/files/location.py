"""Locations: where the bytes of a row are, and how they are opened.

A location is a local path or a URI. `#` separates a file from the row or member inside it, so `#` and
`%` in local names are written `%23` and `%25`, and bytes that are not UTF-8 as `%E9`. URIs are
percent-encoded anyway.
"""

from __future__ import annotations

import errno
import io
import os
import re
import unicodedata
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import fsspec
import pyarrow as pa
from pyarrow import fs

from curation.errors import StoreError
from curation.media.files.file_cache import changed_ns
from curation.media.regular_file import SpecialFileError, open_regular
from curation.media.web.params import PUBLIC_WEB, OutboundParams, is_web
from curation.store.storage.reader import open_filesystem, raising_os_errors

_UNGUARDED = ("http", "https", "reference")
"""File systems of fsspec that would request any address, past the guard."""
_BUFFER_BYTES = 1 << 20
_BLOCK_BYTES = 512
"""Bytes of a block, as file systems count them."""
_PACKED_RATIO = 8
"""How many times over the bytes that a file takes on its disk count as its size, at most."""
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""How Python writes the bytes of a name that are not UTF-8."""


class OutsideFolderError(ValueError):
    """A path that leads out of the folder of its source."""


class HolesError(OSError):
    """Much more was read of a file than it takes on its disk."""


class FileSystemError(OSError):
    """The file system failed while an open file was read, which tells nothing about its content."""


_OF_FILE = (
    *(FileNotFoundError, NotADirectoryError, PermissionError),
    *(SpecialFileError, OutsideFolderError),
)


def is_of_file(error: BaseException | None) -> bool:
    """Whether a file cannot be opened for what it is, and not because the file system fails."""
    is_path = isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENAMETOOLONG)
    return isinstance(error, _OF_FILE) or is_path


def escape(name: str) -> str:
    """Return a local name as it is written in a location: valid UTF-8."""
    name = name.replace("%", "%25").replace("#", "%23")
    return name if name.isascii() else _NOT_UTF8.sub(_as_percent, name)


def unescape(name: str) -> str:
    """Undo `escape`."""
    return os.fsdecode(unquote_to_bytes(name)) if "%" in name else name


def shown(name: str) -> str:
    r"""Return a local name as people read it: bytes that are not UTF-8 are written `\xe9`."""
    if name.isascii():
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        # A surrogate that stands for no byte.
        return name.encode("utf-8", "backslashreplace").decode()


def _as_percent(surrogate: re.Match[str]) -> str:
    return f"%{ord(surrogate[0]) - 0xDC00:02X}"


def split_location(location: str) -> tuple[str, str | None]:
    """Return the file of a location, and the row or member inside it (None for the file itself).

    Both are still escaped.
    """
    path, mark, inside = location.partition("#")
    return path, inside if mark else None


def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path within it: one of Arrow's, or of fsspec.

    Raises:
        ValueError: neither Arrow nor fsspec supports the scheme, it would request any address, or the
            environment names a server that does not fit it.
        OSError: the file system cannot be reached.
    """
    for part in uri.split("::"):
        if part.partition("://")[0].strip().lower() in _UNGUARDED:
            raise ValueError(
                "files on the web are not read through other file systems. Name the file itself by its "
                "http or https address, or a local copy"
            )
    try:
        return open_filesystem(uri)
    except StoreError as store_error:
        raise ValueError(str(store_error)) from store_error
    except pa.ArrowInvalid as arrow_error:
        try:
            of_fsspec, path = fsspec.core.url_to_fs(uri)
        except (ValueError, ImportError) as error:
            raise ValueError(f"{arrow_error}; {error}") from error
        # Arrow decodes URIs, and fsspec does not.
        return fs.PyFileSystem(fs.FSSpecHandler(of_fsspec)), unquote(path)


def open_location(file: str, outbound: OutboundParams = PUBLIC_WEB) -> pa.NativeFile:
    """Open the file of a location for random access.

    Args:
        file: the location without the part after `#`.
        outbound: how files on the web are requested.

    Raises:
        OSError: it cannot be opened, or is no file. Reading it raises `FileSystemError` where the file
            system fails.
        OutsideFolderError: a part of the path has become a link since ingest read it.
    """
    if is_web(file):
        # It imports an HTTP client, which local files do not need.
        from curation.media.files.web_file import WebFile

        web_file = io.BufferedReader(WebFile(file, outbound), _BUFFER_BYTES)
        return _watched(web_file)
    if "://" in file:
        filesystem, path = filesystem_of(file)
        with raising_os_errors():
            return _watched(filesystem.open_input_file(path))
    path = unescape(file)
    if os.path.realpath(path) != path:
        raise OutsideFolderError(path)
    return open_local(path, follow_links=False)


def open_local(path: str, follow_links: bool = True) -> pa.NativeFile:
    """Open a local file for random access, whatever its name.

    Args:
        path: the file.
        follow_links: whether it may be a link.

    Raises:
        OSError: it cannot be opened. Reading it raises `FileSystemError` where the file system fails.
        SpecialFileError: it is no file.
    """
    stream = open_regular(path, follow_links, buffering=0)
    return _watched(stream, os.fstat(stream.fileno()))


def _watched(stream: Any, status: os.stat_result | None = None) -> pa.NativeFile:
    watched = _Watched(stream, status)
    opened = _OpenFile(watched, "r")
    opened.watched = watched
    return opened


def check_file_system(stream: pa.NativeFile) -> None:
    """Check that what failed to read an open file was not the file system: Arrow may not say.

    Raises:
        FileSystemError: it was.
    """
    watched = getattr(stream, "watched", None)
    if watched is not None and watched.failure is not None:
        raise watched.failure


def held_bytes(stream: Any, size: int) -> int:
    """Return the size of an open file, or less if it is a local one with holes.

    What may be read of a file depends on its size, and holes cost nothing. File systems that compress
    take less for a file than its size too, and some do not say what they take.

    Args:
        stream: see `open_location`.
        size: in bytes, holes among them.
    """
    watched = getattr(stream, "watched", None)
    taken = 0 if watched is None else watched.bytes_on_disk
    return min(size, _PACKED_RATIO * taken + _BUFFER_BYTES) if taken else size


def limit_reads(stream: Any, most: int) -> None:
    """Let reading an open file end with `HolesError` after some bytes; see `held_bytes`."""
    stream.watched.most = most


class _OpenFile(pa.PythonFile):  # type: ignore[misc]
    """An open file.

    Attributes:
        watched: what it reads from.
    """

    watched: _Watched


def version_of(stream: pa.NativeFile) -> list[int]:
    """Return the size of an open file in bytes, and of a local one a number that each change changes.

    Args:
        stream: see `open_location`.
    """
    return [stream.size(), stream.watched.changed]


class _Watched:
    """An open file whose failures can be told from damage that a reader notices in its content.

    Args:
        stream: the file.
        status: of a local file.

    Attributes:
        bytes_on_disk: what a local file takes on its disk; 0 for other files, and where its file system
            does not say it.
        changed: `changed_ns` of a local file; 0 for other files.
        most: bytes that may be read in all; None for any number.
        failure: the last.
    """

    def __init__(self, stream: Any, status: os.stat_result | None) -> None:
        self._stream = stream
        self.bytes_on_disk = status.st_blocks * _BLOCK_BYTES if status else 0
        self.changed = changed_ns(status) if status else 0
        self.most: int | None = None
        self._count = 0
        self.failure: FileSystemError | None = None
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    @property
    def closed(self) -> bool:
        closed: bool = self._stream.closed
        return closed

    def read(self, size: int = -1) -> bytes:
        try:
            content: bytes = self._stream.read(size)
        except (OSError, pa.ArrowException) as error:
            self.failure = FileSystemError(*error.args)
            raise self.failure from error
        self._count += len(content)
        if self.most is not None and self._count > self.most:
            raise HolesError(
                f"it has holes: {self._count:,} bytes were read, and it takes {self.bytes_on_disk:,} "
                "on its disk. Its download was not finished"
            )
        return content


def inside(root: str, name: str, follow_links: bool = False) -> str:
    """Return the real path of `name` within the local folder `root`.

    Args:
        root: the folder.
        name: a path within it, relative or absolute.
        follow_links: links may lead out of the folder; `..` may not.

    Raises:
        OutsideFolderError: it is not in the folder, or a link leads out of it.
    """
    if "\x00" in name or "://" in name:
        raise OutsideFolderError(name)
    folder = os.path.realpath(root)
    path = os.path.realpath(os.path.join(folder, name))  # noqa: PTH118
    if _is_below(path, folder):
        return path
    written = os.path.normpath(os.path.join(root, name))  # noqa: PTH118
    if follow_links and (_is_below(written, os.path.normpath(root)) or _is_below(written, folder)):
        return path
    raise OutsideFolderError(name)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def as_spelled(root: str, name: str) -> str:
    r"""Return a path as the file system spells it, if something is there; else as it is.

    Lists that Windows wrote have `\` between folders. macOS takes `é` in one character (NFC) and in two
    (NFD) for the same name, and other systems do not.

    Args:
        root: a local folder.
        name: a path within it, relative or absolute.
    """
    if name.isascii() and "\\" not in name:
        return name
    spellings = (_spelled(root, parts) for parts in (name.split("/"), re.split(r"[/\\]", name)))
    return next(filter(None, spellings), name)


def _spelled(root: str, parts: Iterable[str]) -> str | None:
    path = ""
    for part in parts:
        forms = dict.fromkeys((part, *(unicodedata.normalize(f, part) for f in ("NFC", "NFD"))))
        there = (f"{path}{form}" for form in forms)
        spelled = next((p for p in there if os.path.lexists(os.path.join(root, p))), None)  # noqa: PTH118
        if spelled is None:
            return None
        path = f"{spelled}/"
    return path.rstrip("/")
