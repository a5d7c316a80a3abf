"""Checksums of the files of a store."""

from __future__ import annotations

import hashlib

from curation.store.storage.base import Storage

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

CHUNK_BYTES = 8 * 2**20


def sha256_of(storage: Storage, path: str) -> str | None:
    """Return the SHA-256 of a file of the store in hex, or None if there is no such file."""
    sha256 = hashlib.sha256()
    try:
        with storage.filesystem.open_input_stream(f"{storage.root}/{path}") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                sha256.update(chunk)
    except FileNotFoundError:
        return None
    return sha256.hexdigest()
