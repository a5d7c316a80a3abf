"""CSV and TSV, with a header line unless the published list is known to have none.

This uses Python's reader: for one unbalanced quote, Arrow's reader fails on the whole file, while
Python's loses some rows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from curation.errors import RecipeError
from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.mapped import (
    check_no_inline_images,
    resolve_columns,
    row_from_columns,
)
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.sources.presets import PRESETS
from curation.stages.ingest.sources.source_file import SourceFile

# Largest field in characters: it limits what is lost after an unbalanced quote.
_MAX_FIELD = 128 * 1024


def read_csv(file: SourceFile) -> Iterator[SourceRow]:
    """Yield the rows of a CSV file (RFC 4180: quoted fields may hold commas and line ends)."""
    return _read(file, {"delimiter": ","})


def read_tsv(file: SourceFile) -> Iterator[SourceRow]:
    """Yield the rows of a TSV file; quotes are plain characters, as in most lists of web images."""
    preset = PRESETS.get(file.source.format)
    if preset and preset.quoted:
        return _read(file, {"delimiter": "\t"})
    return _read(file, {"delimiter": "\t", "quoting": csv.QUOTE_NONE})


def _read(file: SourceFile, dialect: dict[str, Any]) -> Iterator[SourceRow]:
    check_no_inline_images(file)
    rows = _fields(file, dialect)
    preset = PRESETS.get(file.source.format)
    header = list(preset.header) if preset and preset.header else next(rows, None)
    if header is None:
        return
    if isinstance(header, SourceRow) or len(set(header)) != len(header):
        raise RecipeError(
            f"Source {file.source.name!r}: the first line of {file.display_name} is not a header with "
            "a different name for each column. Add such a line."
        )
    columns = resolve_columns(file, header)
    for row in rows:
        if isinstance(row, SourceRow):
            yield row
        elif len(row) != len(header):
            yield bad_row(repr(row).encode())
        else:
            yield row_from_columns(columns, dict(zip(header, row, strict=True)))


def _fields(file: SourceFile, dialect: dict[str, Any]) -> Iterator[list[str] | SourceRow]:
    """Yield the fields of each row, or a bad row where it cannot be read."""
    csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(_text(file), **dialect)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield bad_row(f"{reader.line_num} {error}".encode())
            continue
        if not row:
            continue
        joined = "".join(row)
        try:
            if not joined.isascii():
                joined.encode()
        except UnicodeEncodeError:
            yield bad_row(joined.encode("utf-8", "surrogateescape"))
            continue
        yield row


def _text(file: SourceFile) -> Iterator[str]:
    # A truncated line gets longer than a field may be, so that the reader rejects the row.
    for number, (line, is_complete) in enumerate(lines(file)):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        end = "\n" if is_complete else "\x00" * (_MAX_FIELD + 1)
        yield line.decode("utf-8", "surrogateescape") + end
