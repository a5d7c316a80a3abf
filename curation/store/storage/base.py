"""What a store needs of the place where its files are.

`create` is the one operation that two writers can race for. Everything that must happen at most once,
such as taking a lease or committing a table, is the creation of a file that was not there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple, Protocol, runtime_checkable

import pyarrow as pa

TEMPORARY_SUFFIX = ".tmp"
"""Ending of the names of files that are still being written. No listing shows them."""


def is_shown(name: str) -> bool:
    """Whether listings show a file or folder with a name: neither unfinished files nor hidden ones.

    File managers, network disks and programs that synchronise folders leave hidden ones beside others.
    """
    return not name.startswith(".") and not name.endswith(TEMPORARY_SUFFIX)


def temporary_path(path: str) -> str:
    """Return a path for a file that is being written; readers of whole folders skip it."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"


class FileStatus(NamedTuple):
    """Size in bytes, and time of the last change in seconds since 1970."""

    size: int
    modified: float


class Storage(Protocol):
    """Files below one root, by their paths below it."""

    uri: str
    """Address of the root: an absolute local path or a URI, without a slash at its end."""
    is_local: bool
    """Whether the root is a folder of this machine."""
    filesystem: Any
    """The pyarrow file system that reads the files."""
    root: str
    """Path of the root in `filesystem`."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None if there is no such file."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file, or replace it. No reader ever sees a part of it."""

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that is not there; return False, and change nothing, if it is there.

        Of several writers that create the same file at the same time, exactly one gets True, as long as
        `can_create_exclusively` holds.
        """

    @property
    def can_create_exclusively(self) -> bool:
        """Whether `create` refuses a file that is there. The first call tries it out, with a file that
        is removed afterwards."""

    def open_output(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a new file for writing. It is on disk, complete, when the context manager ends.

        Left by an exception, an object store has no such file, and a disk may have a part of it.
        """

    def status(self, path: str) -> FileStatus | None:
        """Return the size and time of a file, or None if there is no such file."""

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """Return the files directly in a folder, or also those below it, by path: see `is_shown`."""

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders directly in a folder, in order."""

    def copy(self, source: str, target: str) -> None:
        """Copy a file, or replace the copy. No reader ever sees a part of it."""

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files. Files that are not there make no difference."""

    def delete_folder(self, folder: str) -> None:
        """Delete everything below a folder. A folder that is not there makes no difference."""


@runtime_checkable
class LeavesFiles(Protocol):
    """A storage in which a process that ends early leaves files that no listing shows."""

    def leftovers(self, folder: str) -> dict[str, FileStatus]:
        """Return the temporary files below a folder, by path; of the root those directly in it."""

    def delete_empty_folders(self, folder: str) -> None:
        """Delete a folder and those below it, as far as they are empty."""


def join_address(uri: str, path: str) -> str:
    """Return the address of a path below a root. Options in the query of a URI stay at its end."""
    if "://" not in uri:
        return f"{uri}/{path}"
    place, mark, options = uri.partition("?")
    return f"{place.rstrip('/')}/{path}{mark}{options}"


def open_input(storage: Storage, path: str) -> Any:
    """Open a file for pyarrow, which reads any part of it.

    Raises:
        OSError: it is missing, or cannot be read.
    """
    return storage.filesystem.open_input_file(f"{storage.root}/{path}")


def open_content(content: bytes) -> pa.BufferReader:
    """Open the content of a file for pyarrow, as a copy in Arrow's memory.

    Threads of Arrow may let go of it late. A Python object that they let go of while Python ends aborts
    the process.
    """
    copy = pa.BufferOutputStream()
    copy.write(content)
    return pa.BufferReader(copy.getvalue())
