"""Opens the storage of an address."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from curation.errors import StoreError
from curation.masking import has_secret, mask_address
from curation.secrets import note_secrets
from curation.store.storage.arrow import ArrowStorage
from curation.store.storage.base import Storage
from curation.store.storage.local import LocalStorage
from curation.store.storage.object_address import SCHEMES
from curation.store.storage.object_store import ObjectStorage


def open_storage(address: str | Path) -> Storage:
    """Return the storage of a local folder or a URI. Nothing is read or written.

    Raises:
        StoreError: the address cannot be opened.
    """
    text = str(address)
    if not text.strip():
        raise StoreError(
            "The address of the store is empty",
            fix="Give a folder or a URI, as --store /data/birds",
        )
    _check_slashes(text)
    scheme, mark, rest = text.partition("://")
    if not mark or isinstance(address, Path):
        # A shell leaves it in `--store=~/birds`, and Python in a text.
        return LocalStorage(os.path.expanduser(address))  # noqa: PTH111
    scheme = scheme.lower()
    text = f"{scheme}://{rest}"
    note_secrets(text)
    if scheme == "file":
        return LocalStorage(_local_path(text))
    if scheme in SCHEMES:
        return ObjectStorage(text)
    if has_secret(text):
        raise StoreError(
            f"The address of the store {mask_address(text)} must not have credentials, "
            "because addresses are printed and recorded",
            fix=(
                "Leave them out, and set them in the environment, as the tools of the file "
                "system expect them"
            ),
        )
    return ArrowStorage(text)


def _check_slashes(text: str) -> None:
    """Check that an address has not lost a slash, as in a `Path`: a folder `s3:` would be made.

    Raises:
        StoreError: it has.
    """
    scheme, mark, rest = text.partition(":/")
    if mark and scheme.lower() in (*SCHEMES, "file", "hdfs") and not rest.startswith("/"):
        raise StoreError(
            f"The address of the store {mask_address(text)!r} has one slash after {scheme}:",
            fix=f"Write {scheme}:// and give it as a text, not as a Path",
        )


def _local_path(uri: str) -> str:
    """Return the path of a URI of a file.

    Raises:
        StoreError: it has parts that a path has not, so that it may mean another folder.
    """
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise StoreError(
            f"The address of the store {uri!r} names the machine {parts.netloc!r}",
            fix=f"Write file:///{parts.netloc}{parts.path} if that is the folder, or its path alone",
        )
    if parts.query or parts.fragment:
        raise StoreError(
            f"The address of the store {uri!r} has a '?' or a '#', which end the path of a URI",
            fix="Write %3F or %23 for one in a name, or give the path without file://",
        )
    return url2pathname(parts.path)
