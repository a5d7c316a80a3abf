"""Rows that readers do not get: they were taken down after their file was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from curation.errors import StoreError
from curation.store.manifest import Manifest
from curation.store.store import Store
from curation.store.tombstones import Takedowns

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

ID_COLUMNS = frozenset(
    {
        *("pair_id", "image_id", "image_a", "image_b", "seed_image_id", "representative_id"),
        *("representative_pair_id", "component_id", "evidence_id", "contaminated_by"),
        *("contaminated_via", "duplicate_of"),
    }
)
"""Columns with the id of a pair or an image: a row that names what was taken down is not shown."""
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def check_searched(store: Store, takedowns: Takedowns | None) -> Takedowns | None:
    """Return the tombstones, if the store was searched for all of them.

    Raises:
        StoreError: a search goes on, or was interrupted.
    """
    if takedowns is not None and takedowns.unsearched:
        raise StoreError(
            f"Rows are being taken down in {store.uri}, and the search for them (tombstone "
            f"{min(takedowns.unsearched)}) has not ended",
            fix=(
                "Wait until it has. If it was interrupted, run curation gc on this store, which "
                "searches again; then run the same command again"
            ),
        )
    return takedowns


@dataclass(frozen=True)
class Withheld:
    """What was taken down, for readers of files that hold some of it.

    Attributes:
        takedowns: all tombstones of the store.
    """

    takedowns: Takedowns

    def with_ids(self, path: str, names: Sequence[str], schema: pa.Schema) -> list[str]:
        """Return the columns to read of a file: some, and those by which its rows are known."""
        if path not in self.takedowns.files:
            return list(names)
        more = [n for n in schema.names if n in ID_COLUMNS and n not in names]
        return [*names, *more]

    def drop(self, path: str, rows: Rows, names: Sequence[str] | None) -> Rows:
        """Return the rows of a file that are shown, with the named columns; None for all columns."""
        if path not in self.takedowns.files:
            return rows
        hidden: dict[str, bool] = {}
        columns = [n for n in rows.schema.names if n in ID_COLUMNS]
        shown = [True] * rows.num_rows
        for column in columns:
            for number, identity in enumerate(rows.column(column).to_pylist()):
                if identity is not None and shown[number]:
                    shown[number] = not self._is_hidden(identity, hidden)
        kept: Any = rows.filter(pa.array(shown, pa.bool_()))
        return kept if names is None else kept.select(list(names))

    def _is_hidden(self, identity: str, known: dict[str, bool]) -> bool:
        if identity not in known:
            known[identity] = self.takedowns.is_withheld(identity)
        return known[identity]


def withheld_rows(store: Store, manifest: Manifest) -> Withheld | None:
    """Return what readers of a version do not get; None if it holds nothing that was taken down.

    Raises:
        StoreError: the search for what was taken down goes on, or was interrupted.
    """
    takedowns = check_searched(store, store.takedowns())
    if takedowns is None or not store.is_withheld(manifest):
        return None
    return Withheld(takedowns)
