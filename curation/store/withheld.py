"""Rows that readers do not get: they were taken down after their file was written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

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


def taken_down_since(store: Store, before: Takedowns | None) -> bool:
    """Whether anything was taken down after some tombstones were read; reads them again.

    A search for the same tombstones may have added pairs and images, such as copies that vectors show.
    """
    now = store.takedowns(reload=True)
    if now is None or before is None:
        return now is not None
    return now.names != before.names or now.hashes != before.hashes


class VersionsWithFiles:
    """Which versions of tables have any of some files. Each manifest is read once, and its paths alone.

    Args:
        store: where the manifests are.
        files: paths of files, such as those that hold what was taken down.
    """

    def __init__(self, store: Store, files: Collection[str]) -> None:
        self._store, self._files = store, pa.array(sorted(files), pa.string())
        self._known: dict[tuple[str, str], bool] = {}

    def has(self, table: str, version: str) -> bool:
        """Whether a version has one of the files; one whose manifest cannot be read has none."""
        if not len(self._files):
            return False
        if (table, version) not in self._known:
            paths = self._store.paths(table, version)
            has = paths is not None and pc.any(pc.is_in(paths, self._files)).as_py()
            self._known[table, version] = bool(has)
        return self._known[table, version]

    def has_any(self, tables: Mapping[str, str]) -> bool:
        """Whether one of some versions, by table, has one of the files."""
        return any(self.has(table, version) for table, version in tables.items())


@dataclass(frozen=True)
class Withheld:
    """What was taken down, for readers of files that hold some of it.

    Attributes:
        takedowns: all tombstones of the store.
    """

    takedowns: Takedowns

    def holds(self, path: str) -> bool:
        """Whether a file holds what was taken down."""
        return path in self.takedowns.files

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
                    shown[number] = not self.is_hidden(identity, hidden)
        kept: Any = rows.filter(pa.array(shown, pa.bool_()))
        for column, kind in zip(rows.schema.names, rows.schema.types, strict=True):
            if nested_ids(kind):
                kept = self._with_shown_items(kept, column, hidden)
        return kept if names is None else kept.select(list(names))

    def _with_shown_items(self, rows: Any, column: str, hidden: dict[str, bool]) -> Any:
        """Return rows without the structures in a column of lists that name what was taken down."""
        index = rows.schema.get_field_index(column)
        field = rows.schema.field(index)
        ids = nested_ids(field.type)
        lists = [
            items
            if items is None
            else [item for item in items if self._is_shown(item, ids, hidden)]
            for items in rows.column(index).to_pylist()
        ]
        columns = list(rows.columns)
        columns[index] = pa.array(lists, field.type)
        return type(rows).from_arrays(columns, schema=rows.schema)

    def _is_shown(self, item: Any, ids: Sequence[str], hidden: dict[str, bool]) -> bool:
        named = [] if item is None else [item[name] for name in ids if item[name] is not None]
        return not any(self.is_hidden(identity, hidden) for identity in named)

    def is_hidden(self, identity: str, known: dict[str, bool]) -> bool:
        """Whether an id is that of a pair or an image that was taken down.

        Args:
            identity: the id.
            known: answers by id; this one is added.
        """
        if identity not in known:
            known[identity] = self.takedowns.is_withheld(identity)
        return known[identity]


def nested_ids(kind: pa.DataType) -> list[str]:
    """Return the fields with an id of a pair or an image, of a list of structures; none for others."""
    if not pa.types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return []
    return [field.name for field in kind.value_type if field.name in ID_COLUMNS]


def withheld_rows(store: Store, manifest: Manifest) -> Withheld | None:
    """Return what readers of a version do not get; None if it holds nothing that was taken down.

    Raises:
        StoreError: the search for what was taken down goes on, or was interrupted.
    """
    takedowns = check_searched(store, store.takedowns())
    if takedowns is None or not store.is_withheld(manifest):
        return None
    return Withheld(takedowns)
