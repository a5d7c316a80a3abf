"""Opens files through pyarrow, with the credentials and the server that the environment names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from pyarrow import fs

from curation.store.storage.azure import SCHEMES as AZURE
from curation.store.storage.azure import azure_reader
from curation.store.storage.google import SCHEMES as GOOGLE
from curation.store.storage.google import google_address

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path within it.

    Raises:
        ValueError: pyarrow does not know the address (`pyarrow.ArrowInvalid`), or it is not valid.
        OSError: the file system cannot be reached.
        StoreError: the environment names a server that is not valid, or that of another account.
    """
    scheme = uri.partition("://")[0]
    address = google_address(uri) if scheme in GOOGLE else uri
    filesystem, path = fs.FileSystem.from_uri(address)
    if scheme in AZURE:
        filesystem = azure_reader(uri) or filesystem
        # Azure's library ends the process if it is refused while a file is opened, and not here.
        with raising_os_errors():
            filesystem.get_file_info(path)
    return filesystem, path


@contextmanager
def raising_os_errors() -> Iterator[None]:
    """Raise OSError where pyarrow has an error of another kind, as for Azure without credentials."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except pa.ArrowException as error:
        raise OSError(str(error).partition("\n")[0]) from error
