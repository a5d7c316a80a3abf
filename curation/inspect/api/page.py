"""What a notebook shows of a store and of a table. Captions and URLs in it are untrusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.filesize import decimal

from curation.errors import StoreError
from curation.inspect.api.versions import TableVersion
from curation.inspect.current import CurrentTables
from curation.inspect.html import render_page
from curation.inspect.report.album import Album, AlbumImage, shorten

TEMPLATE = Path(__file__).parent / "store.html.j2"
PICTURES = 12
FRAGMENTS = 8
"""Fragments in which pictures are looked for: each has thousands of rows, as a rule."""
CELL = 60
DIGITS = 12
"""Digits of a version that are shown."""


def store_page(tables: CurrentTables, versions: Sequence[TableVersion]) -> str:
    """Return the HTML of a store: some pictures of the dataset, and its tables.

    Args:
        tables: the current tables of a recipe.
        versions: of these tables.
    """
    columns = ("table", "rows", "size", "seconds", "version", "created")
    return _render(
        recipe=tables.recipe,
        place=f" in {tables.store.uri}",
        run=f"run {tables.run}",
        pictures=_pictures(tables),
        columns=columns,
        rows=[_version_row(version) for version in versions],
        note="",
    )


def _version_row(version: TableVersion) -> tuple[str, ...]:
    return (
        version.table,
        f"{version.rows:,}",
        "" if version.bytes is None else decimal(version.bytes),
        "" if version.seconds is None else f"{version.seconds:,.1f}",
        version.version[:DIGITS],
        version.created,
    )


def table_page(name: str, grain: str, version: str, head: pa.Table, rows: str) -> str:
    """Return the HTML of a table: its first rows.

    Args:
        name: of the table.
        grain: what one row represents.
        version: of the table.
        head: its first rows.
        rows: how many there are.
    """
    return _render(
        recipe=name,
        place=f": {grain}",
        run=f"version {version[:DIGITS]}",
        pictures=[],
        columns=head.column_names,
        rows=[[_cell(value) for value in row.values()] for row in head.to_pylist()],
        note=f"{len(head):,} of {rows}",
    )


def _render(**content: Any) -> str:
    return render_page(TEMPLATE, content, {}).decode("utf-8")


def _pictures(tables: CurrentTables) -> list[AlbumImage]:
    """Return some pictures of the dataset; those of the first rows before there is a dataset."""
    if "images" not in tables:
        return []
    album = Album(tables["images"])
    try:
        tables.check_together("the page", ["images", *(["claims"] if "claims" in tables else [])])
        refs = [album.add(*row) for row in islice(_rows_with_pictures(tables), PICTURES)]
        album.load()
    except StoreError:
        # The tables can be shown without pictures.
        return []
    return [album[ref] for ref in refs if album[ref].thumbnail]


def _rows_with_pictures(tables: CurrentTables) -> Iterator[tuple[str, str]]:
    """Yield fragments and pair ids of different images, of the first fragments that have any."""
    table = tables["claims" if "claims" in tables else "images"]
    for name, fragment in islice(table.fragments.items(), FRAGMENTS):
        rows = fragment.read(["pair_id", "image_id"])
        seen = dict.fromkeys(
            rows.filter(rows.column("image_id").is_valid()).column("pair_id").to_pylist()
        )
        yield from ((name, pair_id) for pair_id in seen)


def _cell(value: Any) -> str:
    if isinstance(value, list) and len(value) > 3 and isinstance(value[0], float):
        return f"[{', '.join(f'{number:.3f}' for number in value[:3])}, … {len(value)}]"
    return "" if value is None else shorten(str(value), CELL)
