"""Folders of the store for unfinished work of a unit, which a later attempt continues."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from curation.store.layout import without_linked
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class WorkFolder:
    """The folders in which a unit keeps unfinished work: one for each attempt to compute it.

    Attributes:
        store: where they are.
        path: the folder of all attempts.
        name: the folder of this attempt, which no other attempt writes to.
    """

    store: Store
    path: str
    name: str

    @property
    def attempt(self) -> str:
        """Path of the folder of this attempt."""
        return f"{self.path}/{self.name}"

    def delete(self) -> None:
        """Delete the folder of this attempt, and the files beside the folders, such as its progress."""
        storage = self.store.storage
        if storage.is_local:
            storage.delete_folder(self.attempt)
        below = without_linked(storage, storage.files(self.path, recursive=True))
        beside = {path for path in below if "/" not in path.removeprefix(f"{self.path}/")}
        storage.delete(
            path for path in below if path in beside or path.startswith(f"{self.attempt}/")
        )

    def earlier(self) -> list[str]:
        """Return the paths of the folders of other attempts. They may be growing: only read them."""
        names = self.store.storage.folders(self.path)
        return [f"{self.path}/{name}" for name in names if name != self.name]


def delete_work_folders(store: Store, folders: Iterable[str], attempt: str) -> None:
    """Delete what earlier attempts left of units that are finished: those of this step alone.

    Args:
        store: where the folders are.
        folders: the folders of finished units.
        attempt: the lease under which they were computed. Holders before it have lost the lease.
    """
    step, _, number = attempt.rpartition("-")
    finished: dict[str, set[str]] = {}
    for folder in folders:
        parent, _, memo = folder.rpartition("/")
        finished.setdefault(parent, set()).add(memo)
    for parent, memos in finished.items():
        for memo in memos & set(store.storage.folders(parent)):
            for name in store.storage.folders(f"{parent}/{memo}"):
                by, _, holder = name.rpartition("-")[0].rpartition("-")
                if by == step and int(holder) <= int(number):
                    store.storage.delete_folder(f"{parent}/{memo}/{name}")
