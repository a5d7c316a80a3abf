"""Temporary files for what does not fit into memory while a file is read."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from curation.errors import StoreError


@contextmanager
def on_temporary_disk() -> Iterator[None]:
    """Raise errors of temporary files as what they are: they say nothing about the file that is read.

    Raises:
        StoreError: one cannot be written or read, as on a full disk.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreError(
            f"A temporary file in {tempfile.tempdir or 'a temporary folder'} cannot be used ({error})",
            fix="Set the environment variable TMPDIR to a folder on a disk with more room",
        ) from error
