"""The store of a command: a wrong path, or one of several recipes, must not pass unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation.cli.app import err
from curation.terminal import one_line

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


def say_which_recipe(store: Store, table: str) -> None:
    """Say whose table is read where nobody named a run, if the store has those of several recipes."""
    from curation.store.run_log import read_runs

    recipes = [r.recipe for r in read_runs(store) if r.state == "finished" and table in r.tables]
    first, *others = dict.fromkeys(map(one_line, recipes))
    if others:
        err.print(
            f"{table} is that of the latest run, of recipe {first}. For that of {', '.join(others)} "
            "name a run (--run); curation runs lists them."
        )
