"""Opens the storage of an address."""

from __future__ import annotations

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
    scheme = text.partition("://")[0] if "://" in text else ""
    if not scheme or isinstance(address, Path):
        return LocalStorage(address)
    note_secrets(text)
    if scheme == "file":
        return LocalStorage(url2pathname(urlsplit(text).path))
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
