"""Checksums of the files of a store."""

from __future__ import annotations

import hashlib

from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

CHUNK_BYTES = 8 * 2**20


def sha256_of(store: Store, path: str) -> str | None:
    """Return the SHA-256 of a file of the store in hex, or None if there is no such file."""
    storage = store.storage
    place = f"{storage.root}/{path}"
    try:
        with storage.filesystem.open_input_stream(place, buffer_size=CHUNK_BYTES) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None
