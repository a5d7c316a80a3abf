"""An object store: S3 and what speaks its protocol, Google Cloud Storage, Azure.

Files are written and listed through obstore, which creates objects conditionally, sends a small one in
one request and tries again after errors of the server. They are read through pyarrow.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import from_url
from pyarrow import fs

from curation.engine.storage.base import FileStatus
from curation.errors import StoreError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
OPTIONS = {"s3": ("region", "endpoint_override", "scheme", "allow_bucket_creation")}
"""Options that the query of an address may have, by scheme."""
PART_BYTES = 8 * 2**20
"""A file of at most this many bytes is one request; a larger one is sent in such parts."""


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
        options = _options(uri)
        place = urlsplit(uri)._replace(query="").geturl().rstrip("/")
        try:
            self._store = from_url(place, **_settings(urlsplit(uri).scheme, options))
            self.filesystem, self.root = fs.FileSystem.from_uri(uri)
        except (ValueError, OSError) as error:
            raise StoreError(f"Cannot open the store {uri!r}: {error}") from error
        self.root = self.root.rstrip("/")

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        obstore.put(self._store, path, content)

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
            first, second = (self.create(path, content) for content in (b"first", b"second"))
        except (OSError, obstore.exceptions.BaseError):
            return False
        obstore.delete(self._store, path)
        return first and not second

    @contextmanager
    def open_output(self, path: str) -> Iterator[BinaryIO]:
        """See `Storage.open_output`."""
        writer = obstore.open_writer(self._store, path, buffer_size=PART_BYTES)
        # Closed only at the end: until then the object does not exist.
        yield cast(BinaryIO, writer)
        writer.close()

    def status(self, path: str) -> FileStatus | None:
        """See `Storage.status`."""
        try:
            return _status(obstore.head(self._store, path))
        except FileNotFoundError:
            return None

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        prefix = folder or None
        if not recursive:
            listed = obstore.list_with_delimiter(self._store, prefix)["objects"]
            return {entry["path"]: _status(entry) for entry in listed}
        stream = obstore.list(self._store, prefix, chunk_size=1000)
        return {entry["path"]: _status(entry) for chunk in stream for entry in chunk}

    def folders(self, folder: str) -> list[str]:
        """See `Storage.folders`."""
        listed = obstore.list_with_delimiter(self._store, folder or None)
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in listed["common_prefixes"])

    def copy(self, source: str, target: str) -> None:
        """See `Storage.copy`."""
        obstore.copy(self._store, source, target)

    def delete(self, paths: Iterable[str]) -> None:
        """See `Storage.delete`."""
        wanted = list(paths)
        if wanted:
            obstore.delete(self._store, wanted)

    def delete_folder(self, folder: str) -> None:
        """See `Storage.delete_folder`."""
        self.delete(self.files(folder, recursive=True))


def _status(entry: Mapping[str, Any]) -> FileStatus:
    return FileStatus(entry["size"], entry["last_modified"].timestamp())


def _options(uri: str) -> dict[str, str]:
    """Return the options in the query of an address.

    Raises:
        StoreError: one is unknown, or the address has credentials.
    """
    parts = urlsplit(uri)
    account = parts.scheme.startswith("abfs") and "@" in parts.netloc and ":" not in parts.netloc
    if "@" in parts.netloc and not account:
        raise StoreError(
            "The address of a store must not have credentials, because addresses are printed. Set "
            "them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    valid = OPTIONS.get(parts.scheme, ())
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = sorted(options.keys() - set(valid))
    if unknown or parts.fragment:
        raise StoreError(
            f"The address {uri!r} has options that a store does not have: "
            f"{', '.join(unknown) or '#' + parts.fragment}. Valid for {parts.scheme}://: "
            f"{', '.join(valid) or 'none'}."
        )
    return options


def _settings(scheme: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of obstore that mean the same as pyarrow's options."""
    if scheme != "s3":
        return {}
    settings: dict[str, Any] = {}
    if "region" in options:
        settings["region"] = options["region"]
    if "endpoint_override" in options:
        settings["endpoint"] = f"{options.get('scheme', 'https')}://{options['endpoint_override']}"
    if options.get("scheme") == "http":
        settings["client_options"] = {"allow_http": True}
    return settings
