"""Small files of object stores, read in one request and kept in memory for the next reader.

Several stages read the same small fragment one after another. A file never changes, so its copy in
memory is as good, and each request costs more than the file.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from curation.store.manifest import FileEntry
from curation.store.storage.base import Storage, open_content, open_input

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

WHOLE_FILE_BYTES = 4 * 2**20
"""Size up to which a file of an object store is read whole: one request instead of three or more."""
KEPT_BYTES = 64 * 2**20
"""Bytes of small files that a process keeps."""


class SmallFiles:
    """The small files that were read last.

    Args:
        limit: bytes that are kept.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._files: OrderedDict[tuple[str, FileEntry], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def read(self, storage: Storage, entry: FileEntry) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        key = storage.uri, entry
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        content = storage.read(entry.path)
        if content is None:
            raise FileNotFoundError(entry.path)
        if len(content) == entry.size:
            self._keep(key, content)
        return content

    def _keep(self, key: tuple[str, FileEntry], content: bytes) -> None:
        with self._lock:
            if key not in self._files:
                self._files[key] = content
                self._size += len(content)
            while self._size > self._limit:
                self._size -= len(self._files.popitem(last=False)[1])


_KEPT = SmallFiles()


def open_source(storage: Storage, entry: FileEntry) -> Any:
    """Return what pyarrow reads a file from.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not storage.is_local and entry.size <= WHOLE_FILE_BYTES:
        return open_content(_KEPT.read(storage, entry))
    return open_input(storage, entry.path)
