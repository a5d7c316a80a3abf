"""The result of a search as an HTML page with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curation.engine.table import Table
from curation.inspect.html import render_page
from curation.inspect.report.album import Album, shorten

TEMPLATE = Path(__file__).parent / "search.html.j2"


def write_sheet(path: Path, images: Table, nearest: pa.Table, queries: Sequence[str]) -> None:
    """Write a contact sheet: for each query a row of pictures, the nearest first.

    Args:
        path: of the page.
        images: the table with the pictures.
        nearest: what `ImageSearch.nearest` returned.
        queries: the name of each query.
    """
    album = Album(images)
    rows = nearest.to_pylist()
    refs = [album.add_row(row) for row in rows]
    album.load()
    sections = [
        {
            "query": shorten(name),
            "results": [
                row | {"picture": album[ref], "place": row["url"] or row["location"] or ""}
                for row, ref in zip(rows, refs, strict=True)
                if row["query"] == number
            ],
        }
        for number, name in enumerate(queries)
    ]
    path.write_bytes(render_page(TEMPLATE, {"sections": sections}, {}))
