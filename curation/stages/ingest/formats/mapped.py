"""Rows of tables: mapped columns become fields of a row, all others become its metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from curation.errors import RecipeError
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.formats.values import as_json, boxes, text
from curation.stages.ingest.sources.source_file import SourceFile

Columns = Mapping[str, tuple[str, ...]]
"""For each field of a row, the columns that may hold it; the first that is not empty counts."""


def resolve_columns(file: SourceFile, names: Iterable[str]) -> Columns:
    """Return the mapped columns that a file has.

    Args:
        file: the file.
        names: all columns of the file.

    Raises:
        RecipeError: a column that the recipe maps is missing, or all columns of images of a preset.
    """
    of_file = dict.fromkeys(names)
    for mapped, column in file.source.columns.items():
        if column not in of_file:
            raise RecipeError(
                f"Source {file.source.name!r}: {file.display_name} has no column {column!r}, which "
                f"`columns` maps to {mapped}. It has: {', '.join(sorted(of_file)) or 'none'}. "
                "Correct `columns` in the recipe."
            )
    columns = {
        mapped: tuple(c for c in candidates if c in of_file)
        for mapped, candidates in file.source.column_candidates.items()
    }
    if not any(columns.get(field) for field in ("url", "image", "path")):
        expected = ", ".join(file.source.column_candidates.get("url", ()))
        raise RecipeError(
            f"Source {file.source.name!r}: {file.display_name} is not a {file.source.format} list: it "
            f"has none of the columns {expected}. It has: {', '.join(sorted(of_file)) or 'none'}. "
            "Map the column of URLs in `columns`, or set another `format`."
        )
    return {mapped: candidates for mapped, candidates in columns.items() if candidates}


def check_no_inline_images(file: SourceFile) -> None:
    """Check that the columns of a text format do not map encoded images.

    Raises:
        RecipeError: they do.
    """
    if "image" in file.source.column_candidates:
        raise RecipeError(
            f"Source {file.source.name!r}: {file.source.format} cannot hold the bytes of images. "
            "Map `path` to their files, or use parquet or webdataset."
        )


def row_from_columns(columns: Columns, values: dict[str, Any]) -> SourceRow:
    """Return the row with some values by column; the reader itself adds a mapped `image`.

    Raises:
        BadTextError: a mapped value is not UTF-8.
    """
    row = SourceRow()
    for mapped, candidates in columns.items():
        if mapped == "faces":
            row.faces, row.bad = boxes(values.get(candidates[0]))
        elif mapped != "image":
            texts = (text(values.get(column)) for column in candidates)
            setattr(row, mapped, next((value for value in texts if value is not None), None))
    if row.sha256 is not None:
        row.sha256 = row.sha256.strip().lower()
    used = {column for candidates in columns.values() for column in candidates}
    row.metadata = as_json({n: v for n, v in values.items() if n not in used})
    return row
