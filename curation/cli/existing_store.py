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

    runs = (each for each in read_runs(store) if each.state == "finished" and table in each.tables)
    recipes = list(dict.fromkeys(one_line(each.recipe) for each in runs))
    if len(recipes) > 1:
        err.print(
            f"{table} is that of the latest run, of recipe {recipes[0]}. For that of "
            f"{', '.join(recipes[1:])} name a run (--run); curation runs lists them."
        )
