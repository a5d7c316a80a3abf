"""An object store: S3 and what speaks its protocol, Google Cloud Storage, Azure.

Files are written and listed through obstore, which creates objects conditionally, sends a small one in
one request and tries again after errors of the server. They are read through pyarrow.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, partial, wraps
from typing import Any, BinaryIO, Concatenate, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from curation.errors import StoreError
from curation.store.storage.base import FileStatus, is_shown
from curation.store.storage.object_address import read_options, writer_address, writer_settings
from curation.store.storage.reader import open_filesystem

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

PART_BYTES = 8 * 2**20
"""A file of at most this many bytes is one request; a larger one is sent in such parts."""


P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def _answering(
    storage: ObjectStorage, request: str, kinds: tuple[type[Exception], ...] = (BaseError,)
) -> Iterator[None]:
    """Raise StoreError where obstore gives up, so that people get one clear message."""
    try:
        yield
    except kinds as error:
        problem = str(error).partition("\n")[0]
        raise StoreError(
            f"The store {storage.uri} did not answer a request ({request}): {problem}",
            fix="Check its address, its credentials and the network, and run the same command again",
        ) from error


def _explained(
    method: Callable[Concatenate[ObjectStorage, P], R],
) -> Callable[Concatenate[ObjectStorage, P], R]:
    """Let a method raise StoreError where obstore gives up."""

    @wraps(method)
    def call(self: ObjectStorage, *args: P.args, **kwargs: P.kwargs) -> R:
        with _answering(self, method.__name__):
            return method(self, *args, **kwargs)

    return cast(Callable[Concatenate["ObjectStorage", P], R], call)


class ObjectStorage:
    """Objects below a prefix of a bucket.

    Args:
        uri: its address, such as `s3://bucket/prefix?region=eu-west-1`. Credentials come from the
            environment, never from the address.

    Raises:
        StoreError: the address has an option or credentials that are not understood.
    """

    is_local = False

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        options = read_options(uri)
        try:
            self.filesystem, self.root = open_filesystem(uri)
            region = getattr(self.filesystem, "region", None)
            settings = writer_settings(urlsplit(uri).scheme, options, region)
            self._store = from_url(writer_address(uri), **settings)
        except (ValueError, OSError, BaseError) as error:
            problem = str(error).partition("\n")[0]
            raise StoreError(
                f"Cannot open the store {uri!r}: {problem}",
                fix="Mend its address, or the credentials and the region in the environment",
            ) from error
        self.root = self.root.rstrip("/")

    @_explained
    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None

    @_explained
    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        obstore.put(self._store, path, content)

    @_explained
    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`. The content must be unique to this call, or empty."""
        try:
            obstore.put(self._store, path, content, mode="create")
        except AlreadyExistsError:
            # The reply of a request that was carried out may be lost, and the request sent again.
            return bool(content) and self.read(path) == content
        return True

    @cached_property
    def can_create_exclusively(self) -> bool:
        """See `Storage.can_create_exclusively`."""
        path = f"probe-{uuid.uuid4().hex}"
        try:
            return self._creates_once(path)
        except StoreError:
            # This raises too while the store does not answer, which says nothing of conditions.
            self.write(path, b"")
            self.delete([path])
        try:
            return self._creates_once(path)
        except StoreError:
            return False

    def _creates_once(self, path: str) -> bool:
        """Whether of two creations of a file the second one is refused."""
        created = [self.create(path, content) for content in (b"first", b"second")]
        self.delete([path])
        return created == [True, False]

    @contextmanager
    def open_output(self, path: str) -> Iterator[BinaryIO]:
        """See `Storage.open_output`."""
        upload = _Upload(self, path)
        # Closed only at the end: until then the object does not exist.
        yield cast(BinaryIO, upload)
        upload.close()

    @_explained
    def open_writer(self, path: str) -> Any:
        """Return obstore's writer of a new object."""
        return obstore.open_writer(self._store, path, buffer_size=PART_BYTES)

    @_explained
    def status(self, path: str) -> FileStatus | None:
        """See `Storage.status`."""
        try:
            return _status(obstore.head(self._store, path))
        except FileNotFoundError:
            return None

    @_explained
    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        prefix = folder or None
        listed: Iterable[Mapping[str, Any]]
        if recursive:
            stream = obstore.list(self._store, prefix, chunk_size=1000)
            listed = (entry for chunk in stream for entry in chunk)
        else:
            listed = obstore.list_with_delimiter(self._store, prefix)["objects"]
        return {
            entry["path"]: _status(entry)
            for entry in listed
            if all(map(is_shown, entry["path"].split("/")))
        }

    @_explained
    def folders(self, folder: str) -> list[str]:
        """See `Storage.folders`."""
        listed = obstore.list_with_delimiter(self._store, folder or None)
        names = (p.rstrip("/").rsplit("/", 1)[-1] for p in listed["common_prefixes"])
        return sorted(filter(is_shown, names))

    @_explained
    def copy(self, source: str, target: str) -> None:
        """See `Storage.copy`."""
        obstore.copy(self._store, source, target)

    @_explained
    def delete(self, paths: Iterable[str]) -> None:
        """See `Storage.delete`."""
        wanted = list(paths)
        try:
            if wanted:
                obstore.delete(self._store, wanted)
        except FileNotFoundError:
            # S3 deletes what is not there; Azure refuses, and may leave the rest.
            for path in wanted:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, path)

    def delete_folder(self, folder: str) -> None:
        """See `Storage.delete_folder`."""
        self.delete(self.files(folder, recursive=True))


class _Upload:
    """A file that is being sent. Its other methods are those of obstore's writer."""

    def __init__(self, storage: ObjectStorage, path: str) -> None:
        # The writer raises errors of the store as OSError.
        self._answering = partial(_answering, storage, "open_output", (BaseError, OSError))
        self._writer = storage.open_writer(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, content: bytes) -> int:
        """Send bytes, or keep them until there are enough for a request."""
        with self._answering():
            written: int = self._writer.write(content)
        return written

    def close(self) -> None:
        """Send the rest."""
        with self._answering():
            self._writer.close()


def _status(entry: Mapping[str, Any]) -> FileStatus:
    return FileStatus(entry["size"], entry["last_modified"].timestamp())
