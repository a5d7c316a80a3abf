"""What a notebook shows of a store and of a table. Captions and URLs in it are untrusted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.errors import StoreError
from curation.inspect.html import render_page
from curation.inspect.report.album import Album, AlbumImage, shorten

if TYPE_CHECKING:
    from curation.inspect.api.store import OpenStore
    from curation.inspect.api.table import StoredTable

TEMPLATE = Path(__file__).parent / "store.html.j2"
PICTURES = 12
FRAGMENTS = 8
"""Fragments in which pictures are looked for: each has thousands of rows, as a rule."""
CELL = 60
DIGITS = 12
"""Digits of a version that are shown."""


def store_page(store: OpenStore) -> str:
    """Return the HTML of a store: some pictures of the dataset, and its tables.

    Args:
        store: the current tables of a recipe.
    """
    rows = [
        (
            v.table,
            f"{v.rows:,}",
            _megabytes(v.bytes),
            _seconds(v.seconds),
            v.version[:DIGITS],
            v.created,
        )
        for v in store.versions()
    ]
    columns = ("table", "rows", "size", "seconds", "version", "created")
    return _render(
        recipe=store.recipe,
        address=store.address,
        run=store.run,
        pictures=_pictures(store),
        columns=columns,
        rows=rows,
        note="",
    )


def table_page(table: StoredTable) -> str:
    """Return the HTML of a table: its first rows.

    Args:
        table: the version.
    """
    head = table.head()
    return _render(
        recipe=table.name,
        address=table.grain,
        run=f"{table.run or 'none'}, version {table.version[:DIGITS]}",
        pictures=[],
        columns=head.column_names,
        rows=[[_cell(value) for value in row.values()] for row in head.to_pylist()],
        note=f"{len(head):,} of {table.rows:,} rows",
    )


def _render(**content: Any) -> str:
    return render_page(TEMPLATE, content, {}).decode("utf-8")


def _pictures(store: OpenStore) -> list[AlbumImage]:
    """Return some pictures of the dataset; those of the first rows before there is a dataset."""
    if "images" not in store.tables:
        return []
    album = Album(store.open_table("images"))
    try:
        refs = [album.add(*row) for row in islice(_rows_with_pictures(store), PICTURES)]
        album.load()
    except StoreError:
        # The tables can be shown without pictures.
        return []
    return [album[ref] for ref in refs if album[ref].thumbnail]


def _rows_with_pictures(store: OpenStore) -> Iterator[tuple[str, str]]:
    """Yield fragments and pair ids of different images, of the first fragments that have any."""
    table = store.open_table("claims" if "claims" in store.tables else "images")
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


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f}"
