"""Rows of tables: which column is what, and the rest as metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from curation.errors import RecipeError
from curation.stages.ingest.formats.source_row import Asked
from curation.stages.ingest.formats.values import as_json, boxes, text
from curation.stages.ingest.sources.source_file import SourceFile

Columns = Mapping[str, tuple[str, ...]]
"""For what is mapped, the columns that may hold it; the first that is not empty counts."""


def columns_of(given: SourceFile, found: Iterable[str]) -> Columns:
    """Return which of the columns found are mapped.

    Raises:
        RecipeError: one that the recipe names is missing, or all that a preset knows images by.
    """
    names = dict.fromkeys(found)
    for mapped, column in given.source.columns.items():
        if column not in names:
            raise RecipeError(
                f"Source {given.source.name!r}: {given.shown} has no column {column!r}, which "
                f"`columns` maps to {mapped}. Found: {', '.join(sorted(names)) or 'none'}. Mend "
                "`columns` in the recipe."
            )
    own = {
        mapped: tuple(c for c in candidates if c in names)
        for mapped, candidates in given.source.mapped.items()
    }
    if not any(own.get(place) for place in ("url", "image", "path")):
        known = ", ".join(given.source.mapped.get("url", ()))
        raise RecipeError(
            f"Source {given.source.name!r}: {given.shown} is no {given.source.format} list: it has "
            f"none of the columns {known}. Found: {', '.join(sorted(names)) or 'none'}. Say with "
            "`columns` which one has the URLs, or name another format."
        )
    return {mapped: candidates for mapped, candidates in own.items() if candidates}


def refuse_inline(given: SourceFile) -> None:
    """Raise RecipeError where a text format is said to hold encoded images."""
    if "image" in given.source.mapped:
        raise RecipeError(
            f"Source {given.source.name!r}: {given.source.format} cannot hold the bytes of images. "
            "Map `path` to their files, or use parquet or webdataset."
        )


def asked_from(columns: Columns, values: dict[str, Any]) -> Asked:
    """Return the row that `values` by column stand for; `image` is the reader's own to add.

    Raises:
        BadTextError: a mapped value is not UTF-8.
    """
    row = Asked()
    for mapped, candidates in columns.items():
        if mapped == "faces":
            row.faces, row.bad = boxes(values.get(candidates[0]))
        elif mapped != "image":
            found = (text(values.get(column)) for column in candidates)
            setattr(row, mapped, next((value for value in found if value is not None), None))
    if row.sha256 is not None:
        row.sha256 = row.sha256.strip().lower()
    used = {column for candidates in columns.values() for column in candidates}
    row.metadata = as_json({n: v for n, v in values.items() if n not in used})
    return row
