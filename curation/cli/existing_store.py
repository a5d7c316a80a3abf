"""The store of a command that looks after one: a wrong path must not pass for a sound store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation.errors import Detail, StoreError, start_of_paths

if TYPE_CHECKING:
    from curation.store.store import Store

FOLDERS = {"runs", "tables", "steps", "work", "tombstones"}
"""Folders of a store. Each store that a run has worked on has some of them."""


def existing_store(address: str) -> Store:
    """Return the store at an address.

    Raises:
        StoreError: there is none, or it cannot be opened.
    """
    from curation.store.store import Store

    store = Store(address)
    if FOLDERS.isdisjoint(store.storage.folders("")):
        message = f"there is no store at {store.uri}: no run has written one there"
        fix = f"Name the store of a run. {start_of_paths()}"
        raise StoreError(Detail(message, "--store", address, fix=fix))
    return store
