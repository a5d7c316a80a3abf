"""A folder on a local disk, or on one that several machines share."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO, cast

from pyarrow import fs

from curation.errors import StoreError
from curation.store.storage.base import TEMPORARY_SUFFIX, FileStatus, is_shown, temporary_path

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_OTHER_STORE = "Give this user the right to write there, or choose another store."
_FREE_SPACE = (
    "Free some space and run again: what is finished is kept. Of a store, the files under logs/ may be "
    "deleted, so that curation gc has room to begin."
)
_BROKEN = "Mend the disk or the connection to it, and run again: what is finished is kept."
_SHORTER = "Choose a store with a shorter path."
HOW_TO_MEND = {
    errno.EACCES: _OTHER_STORE,
    errno.EPERM: _OTHER_STORE,
    errno.EROFS: "The disk is read-only: mount it for writing, or choose another store.",
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: "Raise the limit of the size of a file (`ulimit -f`), or choose another disk.",
    errno.EIO: _BROKEN,
    errno.ESTALE: _BROKEN,
    errno.ENAMETOOLONG: _SHORTER,
    errno.ENOTDIR: "A part of the path is a file; choose another store.",
}
"""What to do about errors of the operating system."""
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
MISSING = (FileNotFoundError, NotADirectoryError)
COPY_BYTES = 2**20
ATTEMPTS = 8
"""How often a file is opened in a folder that vanishes."""


class LocalStorage:
    """Files below a folder.

    A file is written under a temporary name, synced, and then moved or linked to its name. POSIX and
    NFS (RFC 1813, LINK) guarantee that a name is linked once: that is how `create` decides a race.

    Args:
        root: the folder; it need not exist.

    Raises:
        StoreError: the root is a file, or lies below one or a link that leads nowhere; or its name is
            not valid.
    """

    is_local = True

    def __init__(self, root: str | Path) -> None:
        _check_links(Path(root))
        self.root = self.uri = str(Path(root).resolve())
        _check_root(self.root)
        self.filesystem = fs.LocalFileSystem()

    def _path(self, path: str) -> Path:
        return Path(self.root, path)

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            return self._path(path).read_bytes()
        except MISSING:
            return None

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        with _temporary(self._path(path), content) as temporary:
            temporary.replace(self._path(path))

    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`."""
        target = self._path(path)
        with _temporary(target, content) as temporary:
            try:
                target.hardlink_to(temporary)
            except FileExistsError:
                # Over NFS the reply to a link that was made may be lost, and the link tried again.
                return temporary.stat().st_nlink > 1
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                if target.exists():
                    return False
                temporary.replace(target)
        return True

    @property
    def can_create_exclusively(self) -> bool:
        """See `Storage.can_create_exclusively`: whether the disk has hard links."""
        target = self._path(f"probe-{uuid.uuid4().hex}")
        with _temporary(target, b"") as temporary:
            try:
                target.hardlink_to(temporary)
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                return False
            target.unlink()
        return True

    @contextmanager
    def open_output(self, path: str) -> Iterator[BinaryIO]:
        """See `Storage.open_output`."""
        target = self._path(path)
        with explained_write(target):
            stream = _new_file(target)
        try:
            yield cast(BinaryIO, _Output(stream, target))
            with explained_write(target), stream:
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            # Nobody will read the file, and what the buffer holds may find no space either.
            stream.raw.close()
            _remove(target)
            raise
        _sync_folder(target.parent)

    def status(self, path: str) -> FileStatus | None:
        """See `Storage.status`."""
        try:
            status = self._path(path).stat()
        except MISSING:
            return None
        return FileStatus(status.st_size, status.st_mtime)

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        files: dict[str, FileStatus] = {}
        for entry in self._entries(folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                files |= self.files(path, recursive) if recursive else {}
            else:
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    files[path] = FileStatus(status.st_size, status.st_mtime)
        return files

    def folders(self, folder: str) -> list[str]:
        """See `Storage.folders`."""
        return sorted(entry.name for entry in self._entries(folder) if entry.is_dir())

    def _entries(self, folder: str) -> Iterable[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(folder)) as entries:
                return tuple(entry for entry in entries if is_shown(entry.name))
        except MISSING:
            return ()

    def copy(self, source: str, target: str) -> None:
        """See `Storage.copy`. The copy is a hard link where the disk has them."""
        original, path = self._path(source), self._path(target)
        temporary = Path(temporary_path(str(path)))
        try:
            with explained_write(path):
                _ensure_folder(path.parent)
                _link_or_copy(original, temporary)
            # A move between two names of one file would leave both.
            if not (path.exists() and path.samefile(temporary)):
                temporary.replace(path)
        finally:
            _remove(temporary)
        _sync_folder(path.parent)

    def delete(self, paths: Iterable[str]) -> None:
        """See `Storage.delete`."""
        for path in paths:
            with suppress(*MISSING):
                self._path(path).unlink()

    def delete_folder(self, folder: str) -> None:
        """See `Storage.delete_folder`."""
        shutil.rmtree(self._path(folder), ignore_errors=True)

    def leftovers(self, folder: str) -> dict[str, FileStatus]:
        """See `LeavesFiles.leftovers`."""
        files: dict[str, FileStatus] = {}
        pattern = f"*{TEMPORARY_SUFFIX}"
        for path in self._path(folder).rglob(pattern) if folder else Path(self.root).glob(pattern):
            with suppress(*MISSING):
                status = path.stat()
                name = path.relative_to(self.root).as_posix()
                files[name] = FileStatus(status.st_size, status.st_mtime)
        return files

    def delete_empty_folders(self, folder: str) -> None:
        """See `LeavesFiles.delete_empty_folders`."""
        for path, _, _ in os.walk(self._path(folder), topdown=False):
            # It may not be empty, or not be there any more.
            with suppress(OSError):
                Path(path).rmdir()


def _link_or_copy(original: Path, path: Path) -> None:
    """Give a file another name, or copy it where the disk has no hard links."""
    try:
        path.hardlink_to(original)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS | {errno.EXDEV}:
            raise
        with original.open("rb") as source, path.open("xb") as target:
            shutil.copyfileobj(source, target, COPY_BYTES)
            target.flush()
            os.fsync(target.fileno())


@contextmanager
def _temporary(target: Path, content: bytes) -> Iterator[Path]:
    """Yield a synced file with a temporary name, beside a file to be; sync its folder at the end."""
    temporary = Path(temporary_path(str(target)))
    try:
        with explained_write(target), _new_file(temporary) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
        _sync_folder(target.parent)
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    """Remove a file that may be there; why it could not be written matters more than why it stays."""
    with suppress(OSError):
        temporary.unlink()


class _Output:
    """A file that is being written. Its other methods are those of its stream."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, content: bytes) -> int:
        """Write bytes."""
        with explained_write(self._path):
            return self._stream.write(content)


@contextmanager
def explained_write(path: Path) -> Iterator[None]:
    """Raise errors of the operating system that a person can mend as a StoreError.

    Args:
        path: what is written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in HOW_TO_MEND:
            raise
        message = f"Cannot write {str(path)!r}: {error.strerror}"
        raise StoreError(message, fix=HOW_TO_MEND[error.errno]) from error


def _check_root(root: str) -> None:
    """Check that a path can be the folder of a store.

    Raises:
        StoreError: it cannot.
    """
    try:
        root.encode()
    except UnicodeEncodeError as error:
        raise StoreError(
            f"The store {root!a} has a name that is not UTF-8",
            fix="Rename the folder, or choose another",
        ) from error
    folders = (Path(root), *Path(root).parents)
    # `Path.is_file` raises an error if the path is too long.
    file = next((str(path) for path in folders if os.path.isfile(path)), None)  # noqa: PTH113
    if file is not None:
        raise StoreError(
            f"The store {root!r} cannot be a folder, since {file!r} is a file",
            fix="Choose another store",
        )


def _check_links(root: Path) -> None:
    """Check that no link on the way to the folder of a store leads nowhere: a new store would be made.

    Raises:
        StoreError: one does.
    """
    for path in (root, *root.parents):
        # The methods of `Path` raise errors if it is too long.
        if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
            raise StoreError(
                f"The store {str(root)!r} leads nowhere: {str(path)!r} is a link to "
                f"{os.readlink(path)!r}",  # noqa: PTH115
                fix="Mount the disk, mend the link, or choose another store",
            )


def _new_file(path: Path) -> BufferedWriter:
    """Open a file that is not there, in a folder that gc may be removing because it is empty."""
    for left in reversed(range(ATTEMPTS)):
        try:
            _ensure_folder(path.parent)
            return path.open("xb")
        except FileNotFoundError:
            if not left:
                raise
    raise AssertionError("the last attempt returns or raises")


def _ensure_folder(folder: Path) -> None:
    """Make a folder, and sync the folders that name it."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir()
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot sync a folder.
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)
