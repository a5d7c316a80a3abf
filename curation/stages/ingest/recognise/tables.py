"""Recognises Parquet, CSV, TSV and JSON Lines, and what their columns hold."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from curation.errors import RecipeError
from curation.media.files.limits import LINE_BYTES
from curation.media.files.location import FileSystemError
from curation.media.files.magic import HEAD_BYTES, is_picture
from curation.media.files.parquet_images import (
    image_at,
    image_leaf,
    image_values,
    leaves,
    plain_type,
)
from curation.media.files.parquet_reading import BoundedParquet, Unread
from curation.media.web.params import is_web
from curation.stages.ingest.formats.arrow_values import python_values
from curation.stages.ingest.formats.boundary import UnreadableError
from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.mapped import other_delimiter
from curation.stages.ingest.formats.values import parse_json, shortened
from curation.stages.ingest.recognise.column_names import Head, guess_columns, is_picture_file
from curation.stages.ingest.recognise.pictures_root import fields_of_root
from curation.stages.ingest.recognise.place import LIST, PICTURES, Place, Recognised
from curation.stages.ingest.sources.source_file import SourceFile

_ROWS, _IMAGE_ROWS = 100, 4
"""Rows whose values are looked at; fewer of columns of images."""
Answer = Recognised | str | None
"""What was recognised, or why it was not; None where no file has the ending."""


def parquet(place: Place) -> Answer:
    """Recognise Parquet with URLs, paths or encoded images."""
    files = place.named("parquet")
    return _of_table("parquet", place, len(files), parquet_head) if files else None


def comma_separated(place: Place) -> Answer:
    """Recognise CSV with URLs or paths."""
    return _delimited("csv", place, ",")


def tab_separated(place: Place) -> Answer:
    """Recognise TSV with URLs or paths, and Conceptual Captions, which has no header."""
    return _delimited("tsv", place, "\t")


def json_lines(place: Place) -> Answer:
    """Recognise JSON Lines with URLs or paths."""
    files = place.named("jsonl")
    return _of_table("jsonl", place, len(files), _json_head) if files else None


def _of_table(form: str, place: Place, files: int, head_of: Any) -> Answer:
    head = head_of(place.first_file(form))
    columns = guess_columns(head)
    if not {"url", "image", "path"} & columns.keys():
        names = ", ".join(head.values) or "none"
        return (
            "no column holds URLs, paths of pictures or encoded images (columns of text or numbers: "
            f"{names})"
        )
    certainty = PICTURES if "image" in columns else LIST
    root: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    if "path" in columns:
        paths = [str(value) for value in head.values[columns["path"]] if value not in (None, "")]
        root, notes = fields_of_root(place, paths)
    return Recognised({"format": form, "columns": columns} | root, certainty, files, notes)


def _delimited(form: str, place: Place, delimiter: str) -> Answer:
    files = place.named(form)
    if not files:
        return None
    rows = _delimited_rows(place.first_file(form), delimiter)
    first = rows[0] if rows else []
    fix = other_delimiter(first, delimiter)
    if fix is not None and (len(first) == 1 or first[0].startswith("sep=")):
        return f"its first line is {shortened(delimiter.join(first))!r}. {fix}"
    addresses = [*map(is_web, first)]
    if not any(addresses) and not any(map(is_picture_file, first)):
        return _of_table(form, place, len(files), lambda file: _delimited_head(rows))
    if form == "tsv" and len(first) == 2 and any(addresses):
        note = "The files have no header: URL and caption are known by their places."
        preset = ("cc12m", "cc3m")[addresses.index(True)]
        return Recognised({"format": preset}, LIST, len(files), (note,))
    what, name = ("a URL", "url") if any(addresses) else ("the path of a picture", "path")
    return (
        f"the first line holds {what}, so there is no header. Add a first line with the names of the "
        f"columns, such as {delimiter.join([name, 'caption'][: len(first)])!r}"
    )


def _delimited_rows(file: SourceFile, delimiter: str) -> list[list[str]]:
    texts = (line.decode("utf-8", "replace") for line, _ in head_lines(file))
    try:
        return [row for row in csv.reader(texts, delimiter=delimiter) if row]
    except csv.Error as error:
        raise UnreadableError(f"{file.display_name}: {error}") from error


def _delimited_head(rows: list[list[str]]) -> Head:
    if not rows:
        return Head({})
    header, *body = rows
    body = [row for row in body if len(row) == len(header)]
    return Head({name: [row[place] for row in body] for place, name in enumerate(header)})


def head_lines(file: SourceFile) -> Iterator[tuple[bytes, bool]]:
    """Yield the first lines of a file, fewer if they are long; see `lines`."""
    size = 0
    for line, is_complete in islice(lines(file), _ROWS + 1):
        yield line, is_complete
        size += len(line)
        if size > LINE_BYTES:
            return


def _json_head(file: SourceFile) -> Head:
    values: dict[str, list[Any]] = {}
    for line, is_complete in head_lines(file):
        try:
            value = parse_json(line.decode()) if is_complete and line.strip() else None
        except ValueError:
            continue
        for name, of in value.items() if isinstance(value, dict) else ():
            if not isinstance(of, dict | list):
                values.setdefault(str(name), []).append(of)
    return Head(values)


def parquet_head(file: SourceFile) -> Head:
    """Return the first rows of a Parquet file.

    Raises:
        RecipeError: the file system failed.
        UnreadableError: the file is damaged.
    """
    try:
        with file.open() as stream:
            bounded = BoundedParquet(stream)
            schema = bounded.file.schema_arrow
            plain = [n for n, f in enumerate(schema) if not _may_hold_images(f.type)]
            values = {
                schema.names[n]: python_values(column)[0]
                for n, column in _columns(bounded, schema, plain, _ROWS)
            }
            images = [n for n in range(len(schema)) if _may_hold_images(schema.field(n).type)]
            with_pictures = [n for n in images if _holds_pictures(bounded, schema, n)]
    except FileSystemError as error:
        raise RecipeError(
            f"{file.display_name} cannot be read ({error})",
            fix="Make the file readable, or name another one",
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableError(f"{file.display_name}: {error}") from error
    return Head(values, [schema.names[n] for n in with_pictures])


def _may_hold_images(kind: pa.DataType) -> bool:
    return pa.types.is_nested(plain_type(kind)) or "binary" in str(plain_type(kind))


def _columns(
    bounded: BoundedParquet, schema: pa.Schema, places: list[int], rows: int
) -> list[tuple[int, pa.Array]]:
    """Return the first rows of some columns, each with its place in the schema."""
    wanted = [leaf for place in places for leaf in leaves(schema, place)]
    for part in bounded.batches(wanted, rows) if wanted else ():
        if not isinstance(part, Unread):
            return list(zip(places, part.rows.columns, strict=True))
    return []


def _holds_pictures(bounded: BoundedParquet, schema: pa.Schema, place: int) -> bool:
    """Whether a column holds encoded images, by the first bytes of its first values."""
    leaf = image_leaf(schema, place)
    if leaf is None:
        return False
    for part in bounded.batches([leaf], _IMAGE_ROWS):
        if isinstance(part, Unread):
            continue
        values = image_values(part.rows.column(0))
        buffers = [image_at(values, n) for n in range(len(values))]
        return any(b is not None and is_picture(b[:HEAD_BYTES].to_pybytes()) for b in buffers)
    return False
