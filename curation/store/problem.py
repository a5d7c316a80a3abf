"""What is wrong with a file of a store, and the command that mends it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from curation.store.access import RETRY, is_out_of_reach
from curation.store.checksums import sha256_of
from curation.store.manifest import FileEntry
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class Problem:
    """A file that is missing, damaged, or cannot be read.

    Attributes:
        path: of the file, within the store.
        problem: what is wrong.
        table: the table, or the folder of work tables; empty if it belongs to none.
        versions: the versions of the table that name the file.
        fragments: the fragments that it is part of.
        recipe: name of the recipe whose run has one of the versions; empty if there is none.
        earlier_run: that run, if its recipe has finished with another version since: then the recipe as
            it is now does not read the file. Empty otherwise.
        tags: the tags of the runs that have one of the versions, if there is an earlier run.
        to_set_aside: paths to rename with `Store.set_aside`, so that running the recipe again reuses
            neither the file nor the completion records that name it.
        set_aside: their new paths, if that was done.
        mend: what mends it, where running a recipe does not; STORE stands for the address of the store.
    """

    path: str
    problem: str
    table: str = ""
    versions: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    recipe: str = ""
    earlier_run: str = ""
    tags: tuple[str, ...] = ()
    to_set_aside: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    mend: str = ""

    def remedy(self, store: str) -> str:
        """Return the command that mends it, for a store with an address; a shell takes it as it is."""
        store = shlex.quote(store)
        if self.mend:
            return self.mend.replace("STORE", store)
        named = f" (that of recipe {self.recipe!r})" if self.recipe else ""
        if self.earlier_run:
            named = f" (recipe {self.recipe!r} as it was in run {self.earlier_run})"
        run = f"curation run RECIPE.yaml --store {store}{named}"
        if self.earlier_run:
            untag = (f"curation tag {tag} --delete --store {store}, " for tag in self.tags)
            run += f"; or give the run up: {''.join(untag)}curation gc --store {store}"
        if not self.to_set_aside or self.set_aside:
            return run
        table = f" --table {self.table}" if self.table else ""
        return f"curation verify-store --store {store}{table} --set-aside, then {run}"


def unreadable(store: Store, path: str, error: Exception, table: str = "") -> Problem:
    """Return the problem of a file that cannot be read, or does not hold what was written.

    Args:
        store: where it is.
        path: of the file.
        error: what reading it raised.
        table: see `Problem`.
    """
    text = f"cannot be read ({error})"
    if isinstance(error, OSError) and is_out_of_reach(store.storage, error):
        # It may be whole, so it must not be set aside.
        return Problem(path, text, table, mend=RETRY)
    return Problem(path, text, table, to_set_aside=(path,))


def problem_of(store: Store, entry: FileEntry) -> Problem | None:
    """Return what is wrong with a file; None if it has the recorded size and SHA-256."""
    try:
        status = store.storage.status(entry.path)
        if status is None:
            return Problem(entry.path, "is missing")
        if status.size != entry.size:
            sizes = f"{status.size:,} bytes instead of {entry.size:,}"
            return Problem(entry.path, f"has {sizes}", to_set_aside=(entry.path,))
        sha256 = sha256_of(store.storage, entry.path)
    except OSError as error:
        return unreadable(store, entry.path, error)
    if sha256 == entry.sha256:
        return None
    problem = "has other bytes than were written (SHA-256)"
    return Problem(entry.path, problem, to_set_aside=(entry.path,))
