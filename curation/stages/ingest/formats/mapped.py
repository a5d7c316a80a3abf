"""Rows of tables: mapped columns become fields of a row, all others become its metadata."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curation.errors import Detail, RecipeError
from curation.media.files.limits import COLUMNS, METADATA_CHARACTERS
from curation.media.web.params import is_web
from curation.stages.ingest.formats.boundary import unreadable
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.formats.values import (
    ALTERED,
    BadTextError,
    as_json,
    boxes,
    characters,
    is_altered,
    shortened,
    text,
)
from curation.stages.ingest.sources.source_file import SourceFile

_SHA256 = re.compile(r"[0-9a-f]{64}")
Columns = Mapping[str, tuple[str, ...]]
"""For each field of a row, the columns that may hold it; the first that is not empty counts."""
_SHOWN_COLUMNS = 30
_DELIMITERS = {"\t": "tsv", ";": "", "|": "", ",": "csv"}
"""What may separate fields, and the format that reads such a file."""


def resolve_columns(file: SourceFile, names: Iterable[str]) -> Columns:
    """Return the mapped columns that a list has; some must say where images are.

    Args:
        file: the file.
        names: all columns of the file; those in the names of its folders are added.

    Raises:
        RecipeError: a column that the recipe maps is missing, or all columns of images of a preset.
        UnreadableError: it has too many columns.
    """
    names = list(names)
    columns = mapped_columns(file, names)
    lists_images = file.source.lists_images
    if lists_images and not any(columns.get(field) for field in ("url", "image", "path")):
        expected = ", ".join(file.source.column_candidates.get("url", ()))
        raise RecipeError(
            f"{file.label} is not a {file.source.format} list: it has none of the columns {expected}. "
            f"It has: {listed_names([*names, *file.partitions])}",
            fix="Map the column of URLs in `columns`, or set another `format`",
        )
    return columns


def mapped_columns(file: SourceFile, names: Iterable[str]) -> Columns:
    """Return the mapped columns that a file has, whatever they are.

    Args:
        file: the file.
        names: all columns of the file; those in the names of its folders are added.

    Raises:
        RecipeError: a column that the recipe maps is missing.
        UnreadableError: it has too many columns.
    """
    names = list(names)
    listed = [*names, *file.partitions]
    of_file = dict.fromkeys(listed)
    if len(listed) > COLUMNS:
        raise unreadable(
            file,
            f"has {len(listed):,} columns, more than {COLUMNS:,}",
            "Keep those that are needed",
        )
    for mapped, column in file.source.columns.items():
        if column not in of_file:
            raise RecipeError(
                Detail(
                    f"{file.display_name} has no column {column!r}, which `columns` maps to {mapped}",
                    f"Source {file.source.name!r}",
                    column,
                    _shown(of_file),
                    _fix_of_columns(file, names),
                )
            )
    columns = {
        mapped: tuple(c for c in candidates if c in of_file)
        for mapped, candidates in file.source.column_candidates.items()
    }
    return {mapped: candidates for mapped, candidates in columns.items() if candidates}


def _fix_of_columns(file: SourceFile, names: Sequence[str]) -> str:
    """Return how a missing column is mended: in the recipe, or in a file with another delimiter."""
    mark = {"csv": ",", "tsv": "\t"}.get(file.source.reader)
    fix = mark and len(names) in (1, 2) and other_delimiter(names, mark)
    return fix or "Correct `columns` in the recipe, or name the files that have the column"


def other_delimiter(names: Sequence[str], mark: str) -> str | None:
    """Return how a file with another delimiter than the mark is read; None if it seems to have none.

    Args:
        names: of its columns.
        mark: by which they were taken apart.
    """
    if names and names[0].startswith("sep="):
        return "Remove its first line, which only Excel reads"
    for other, form in _DELIMITERS.items():
        if names and other != mark and other in names[0]:
            seen = f"Its fields seem to be separated by {other!r}: "
            return seen + (f"set `format: {form}`" if form else "write it with commas or tabs")
    return None


def listed_names(names: Iterable[str]) -> str:
    """Return names for people, sorted; of many, the first."""
    return ", ".join(_shown(names)) or "none"


def _shown(names: Iterable[str]) -> list[str]:
    """Return the names of columns in order, and in place of many the number of the others."""
    ordered = [shortened(name).replace("\n", r"\n") for name in sorted(names)]
    if len(ordered) > _SHOWN_COLUMNS:
        ordered[_SHOWN_COLUMNS:] = [f"{len(ordered) - _SHOWN_COLUMNS:,} others"]
    return ordered


def check_no_inline_images(file: SourceFile) -> None:
    """Check that the columns of a text format do not map encoded images.

    Raises:
        RecipeError: they do.
    """
    if "image" in file.source.column_candidates:
        raise RecipeError(
            f"Source {file.source.name!r}: {file.source.format} cannot hold the bytes of images",
            fix="Map `path` to their files, or use parquet or webdataset",
        )


def row_from_columns(columns: Columns, values: Mapping[str, Any]) -> SourceRow:
    """Return the row with some values by column; the reader itself adds a mapped `image`.

    The row is bad if a mapped value cannot be what it is mapped to.
    """
    row = SourceRow()
    used = {column for candidates in columns.values() for column in candidates}
    for mapped, candidates in columns.items():
        if mapped == "faces":
            try:
                row.faces = boxes(values.get(candidates[0]))
            except BadTextError as error:
                _reject(row, candidates[0], str(error), values[candidates[0]])
        elif mapped != "image":
            value, place = _first_text(row, candidates, values)
            setattr(row, mapped, value)
            # Another caption of the row is metadata.
            used.difference_update(c for c in candidates[place:] if values.get(c) not in (None, ""))
    if row.sha256 is not None:
        row.sha256 = row.sha256.strip().lower()
        if not _SHA256.fullmatch(row.sha256):
            _reject(row, columns["sha256"][0], "no SHA-256 in hexadecimal digits")
            row.sha256 = None
    set_metadata(row, {n: v for n, v in values.items() if n not in used})
    return row


def set_metadata(row: SourceRow, values: Mapping[str, Any]) -> None:
    """Set the metadata of a row; those that are too large are left out, and the row says so."""
    # Control characters take six each as JSON, so nothing is written that is left out.
    size = characters(values)
    row.metadata = as_json(values) if size <= METADATA_CHARACTERS else None
    size = max(size, len(row.metadata or ""))
    if size > METADATA_CHARACTERS:
        problem = f"metadata of more than {METADATA_CHARACTERS:,} characters are left out"
        row.unreadable = f"{row.unreadable}; {problem}" if row.unreadable else problem
        row.metadata = None
        row.left_out += size


def _first_text(
    row: SourceRow, candidates: tuple[str, ...], values: Mapping[str, Any]
) -> tuple[str | None, int]:
    """Return the first text that is not empty, and the place of the candidate after it.

    A value that is no text makes the row bad.
    """
    for place, column in enumerate(candidates, 1):
        try:
            value = _noted_text(row, column, values.get(column))
        except BadTextError as error:
            _reject(row, column, str(error), values[column])
            return None, place
        if value is not None:
            return value, place
    return None, len(candidates)


def set_text(row: SourceRow, field: str, column: str, value: Any) -> None:
    """Set a field of a row to the text of a column; a value that is no text makes the row bad."""
    try:
        setattr(row, field, _noted_text(row, column, value))
    except BadTextError as error:
        _reject(row, column, str(error), value)


def take_address(row: SourceRow) -> None:
    """Take a path that is an address on the web for the URL, where a format has no field for it."""
    if row.path is not None and row.url is None and is_web(row.path):
        row.url, row.path = row.path, None


def _noted_text(row: SourceRow, column: str, value: Any) -> str | None:
    """Return a value as text; the row says so if it is not what the list has."""
    converted = text(value)
    if is_altered(value, converted):
        row.unreadable = row.unreadable or f"column {column!r}: {ALTERED}"
    return converted


def _reject(row: SourceRow, column: str, problem: str, value: Any = None) -> None:
    row.bad = True
    row.left_out += len(value) if isinstance(value, str | bytes) else 0
    row.unreadable = f"column {column!r}: {problem}"


def merged(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return values by column; those of columns that share a name become a list."""
    values: dict[str, Any] = {}
    repeated = {name for name, count in Counter(names).items() if count > 1}
    for name, value in zip(names, row, strict=True):
        if name in repeated:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def check_unique(file: SourceFile, names: Sequence[str], columns: Columns) -> None:
    """Check that no mapped column has the name of another.

    Raises:
        RecipeError: one has.
    """
    for mapped, candidates in columns.items():
        for column in candidates:
            if names.count(column) > 1:
                raise RecipeError(
                    f"{file.label} has more than one column {column!r}, mapped to {mapped}",
                    fix="Give each column a different name",
                )
