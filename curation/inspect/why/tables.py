"""Reading single rows of the current tables: only the fragment and the columns that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.table import Table
from curation.inspect.why.values import integers, text, texts
from curation.store.fragment import Fragment
from curation.store.store import in_parallel


@dataclass(frozen=True)
class Place:
    """A row of the aligned tables.

    Attributes:
        fragment: name of its fragment.
        pair_id: id of its pair.
        occurrence: how many rows with this id the fragment has before it; duplicates share an id.
    """

    fragment: str
    pair_id: str
    occurrence: int = 0


class RowReader:
    """The current tables of a recipe; a stage that has not run has none.

    Args:
        tables: the tables by name.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables

    def __contains__(self, table: str) -> bool:
        return table in self._tables

    def __getitem__(self, table: str) -> Table:
        return self._tables[table]

    @property
    def names(self) -> list[str]:
        """The names of the tables."""
        return list(self._tables)

    def row(
        self, table: str, place: Place, columns: Sequence[str] | None = None
    ) -> dict[str, Any] | None:
        """Return a row of an aligned table; None if the table, its fragment or the row is not there.

        Args:
            table: name of the table.
            place: of the row.
            columns: those to read; None reads all but pictures and vectors.
        """
        if table not in self or place.fragment not in self[table].fragments:
            return None
        fragment = self[table].fragments[place.fragment]
        rows = fragment.read(_light_columns(fragment) if columns is None else columns)
        matching = rows.filter(pc.equal(rows.column("pair_id"), text(place.pair_id)))
        at = min(place.occurrence, len(matching) - 1)
        return None if at < 0 else matching.slice(at, 1).to_pylist()[0]

    def scan(
        self, table: str, columns: Sequence[str], wanted: Mapping[str, Sequence[str]]
    ) -> list[dict[str, Any]]:
        """Return the rows in which a column has one of some values, with the name of their fragment.

        Args:
            table: name of the table; without it, no row is returned.
            columns: to return.
            wanted: values by column. A row with any of them counts. Only these columns are read of
                fragments without such a row.
        """
        if table not in self:
            return []
        fragments = list(self[table].fragments.items())
        batches = in_parallel(lambda item: _matching(*item, columns, wanted), fragments)
        return [row for rows in batches for row in rows]

    def places(
        self, table: str, wanted: Mapping[str, Sequence[str]], fragment: str | None = None
    ) -> list[Place]:
        """Return the places of the rows of an aligned table that `scan` would return.

        Args:
            table: name of the table.
            wanted: values by column.
            fragment: the one that is searched; None for all.
        """
        if table not in self:
            return []
        named = self[table].fragments.items()
        fragments = [item for item in named if fragment in (None, item[0])]
        in_fragments = in_parallel(lambda item: list(_places(*item, wanted)), fragments)
        return [place for places in in_fragments for place in places]

    def count(self, table: str, column: str, value: int) -> int:
        """Return the number of rows in which a column has a value."""
        wanted = integers([value])

        def counted(fragment: Fragment) -> int:
            values = fragment.read([column]).column(column)
            return pc.sum(pc.is_in(values, wanted)).as_py() or 0

        return sum(in_parallel(counted, list(self[table].fragments.values())))


def _light_columns(fragment: Fragment) -> list[str]:
    schema = fragment.schema()
    heavy = (pa.types.is_binary, pa.types.is_fixed_size_binary)
    return [f.name for f in schema or () if not any(is_heavy(f.type) for is_heavy in heavy)]


def _has_wanted(rows: pa.Table, wanted: Mapping[str, Sequence[str]]) -> pa.ChunkedArray:
    """Return which rows have one of some values in one of some columns."""
    mask = None
    for column, values in wanted.items():
        matches = pc.is_in(rows.column(column), texts(values))
        mask = matches if mask is None else pc.or_(mask, matches)
    return mask


def _matching(
    name: str, fragment: Fragment, columns: Sequence[str], wanted: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    mask = _has_wanted(fragment.read(list(wanted)), wanted)
    if not pc.any(mask).as_py():
        return []
    rows: list[dict[str, Any]] = fragment.read(columns).filter(mask).to_pylist()
    return [{"fragment": name, **row} for row in rows]


def _places(name: str, fragment: Fragment, wanted: Mapping[str, Sequence[str]]) -> Iterator[Place]:
    mask = _has_wanted(fragment.read(list(wanted)), wanted)
    if not pc.any(mask).as_py():
        return
    ids = fragment.read(["pair_id"]).column("pair_id")
    for row in numbers_of(mask):
        same = numbers_of(pc.equal(ids, ids[row]))
        yield Place(name, ids[row].as_py(), same.index(row))


def numbers_of(mask: pa.ChunkedArray) -> list[int]:
    """Return the numbers of the rows for which a mask is true."""
    rows: list[int] = pc.indices_nonzero(mask).to_pylist()
    return rows
