"""Rows of tables: which column is what, and the rest as metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from curation.errors import RecipeError
from curation.ingest.asked import Asked
from curation.ingest.source_file import SourceFile
from curation.ingest.values import as_json, text
from curation.params import Mapped


def check_columns(given: SourceFile, found: Iterable[str]) -> None:
    """Raise RecipeError where a mapped column is not among those found."""
    names = list(found)
    for mapped, column in given.source.columns.items():
        if column not in names:
            raise RecipeError(
                f"Source {given.source.name!r}: {given.shown} has no column {column!r}, which "
                f"`columns` maps to {mapped}. Found: {', '.join(sorted(names)) or 'none'}. Mend "
                "`columns` in the recipe."
            )


def refuse_inline(given: SourceFile) -> None:
    """Raise RecipeError where a text format is said to hold encoded images."""
    if "image" in given.source.columns:
        raise RecipeError(
            f"Source {given.source.name!r}: {given.source.format} cannot hold the bytes of images. "
            "Map `path` to their files, or use parquet or webdataset."
        )


def asked_from(columns: dict[Mapped, str], values: dict[str, Any]) -> Asked:
    """Return the row that `values` by column stand for; `image` is the reader's own to add.

    Raises:
        BadTextError: a mapped value is not UTF-8.
    """
    row = Asked()
    for mapped, column in columns.items():
        if mapped != "image":
            setattr(row, mapped, text(values.get(column)))
    if row.sha256 is not None:
        row.sha256 = row.sha256.strip().lower()
    used = set(columns.values())
    row.metadata = as_json({n: v for n, v in values.items() if n not in used})
    return row
