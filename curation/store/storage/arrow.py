"""Any other file system that pyarrow opens, such as HDFS. It creates no file conditionally."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from pyarrow import fs

from curation.errors import StoreError
from curation.store.storage.base import FileStatus, is_shown, temporary_path

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

HADOOP = ("hdfs", "viewfs")
OF_HADOOP = (
    "Install Hadoop's libhdfs and a Java, set HADOOP_HOME, JAVA_HOME and CLASSPATH (hadoop classpath "
    "--glob), or choose another store"
)
VALID = "Valid are a folder and addresses with file://, s3://, gs://, abfs:// and hdfs://"


class ArrowStorage:
    """Files below a root of a pyarrow file system.

    Args:
        uri: its address, such as `hdfs://host/path`.

    Raises:
        StoreError: pyarrow cannot open it.
    """

    is_local = False
    can_create_exclusively = False

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        try:
            self.filesystem, root = fs.FileSystem.from_uri(uri)
        except (ValueError, OSError) as error:
            problem = str(error).partition("\n")[0]
            scheme = uri.partition("://")[0]
            fix = OF_HADOOP if scheme in HADOOP else VALID
            raise StoreError(f"Cannot open the store {uri!r}: {problem}", fix=fix) from error
        self.root = root.rstrip("/")

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}"

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            with self.filesystem.open_input_stream(self._path(path)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        temporary = temporary_path(path)
        with self.open_output(temporary) as stream:
            stream.write(content)
        self.filesystem.move(self._path(temporary), self._path(path))

    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`. Two writers at the same time may both get True."""
        if self.status(path) is not None:
            return False
        self.write(path, content)
        return True

    @contextmanager
    def open_output(self, path: str) -> Iterator[BinaryIO]:
        """See `Storage.open_output`."""
        target = self._path(path)
        self.filesystem.create_dir(target.rsplit("/", 1)[0], recursive=True)
        with self.filesystem.open_output_stream(target) as stream:
            yield cast(BinaryIO, stream)

    def status(self, path: str) -> FileStatus | None:
        """See `Storage.status`."""
        info = self.filesystem.get_file_info(self._path(path))
        return None if info.type != fs.FileType.File else _status(info)

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        selector = fs.FileSelector(
            self._path(folder).rstrip("/"), recursive=recursive, allow_not_found=True
        )
        infos = self.filesystem.get_file_info(selector)
        files = {i.path[len(self.root) + 1 :]: i for i in infos if i.type == fs.FileType.File}
        return {p: _status(i) for p, i in files.items() if all(map(is_shown, p.split("/")))}

    def folders(self, folder: str) -> list[str]:
        """See `Storage.folders`."""
        selector = fs.FileSelector(self._path(folder).rstrip("/"), allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return sorted(
            i.base_name for i in infos if i.type == fs.FileType.Directory and is_shown(i.base_name)
        )

    def copy(self, source: str, target: str) -> None:
        """See `Storage.copy`."""
        temporary = temporary_path(target)
        self.filesystem.create_dir(self._path(target).rsplit("/", 1)[0], recursive=True)
        self.filesystem.copy_file(self._path(source), self._path(temporary))
        self.filesystem.move(self._path(temporary), self._path(target))

    def delete(self, paths: Iterable[str]) -> None:
        """See `Storage.delete`."""
        for path in paths:
            with suppress(FileNotFoundError):
                self.filesystem.delete_file(self._path(path))

    def delete_folder(self, folder: str) -> None:
        """See `Storage.delete_folder`."""
        with suppress(FileNotFoundError):
            self.filesystem.delete_dir(self._path(folder))


def _status(info: fs.FileInfo) -> FileStatus:
    return FileStatus(info.size, (info.mtime_ns or 0) / 1e9)
