"""The store of a command that looks after one: a wrong path must not pass for a sound store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curation.store.store import Store


def existing_store(address: str) -> Store:
    """Return the store at an address.

    Raises:
        StoreError: there is none, or it cannot be opened.
    """
    from curation.store.layout import check_is_store
    from curation.store.store import Store

    store = Store(address)
    check_is_store(store.storage)
    return store
