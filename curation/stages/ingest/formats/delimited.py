"""CSV and TSV, with a header line unless the list is known to have none.

Python's reader, not Arrow's: one stray quote makes Arrow give up the whole file, here it costs a row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from curation.errors import RecipeError
from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.mapped import asked_from, columns_of, refuse_inline
from curation.stages.ingest.formats.source_row import Asked, bad_row
from curation.stages.ingest.sources.presets import PRESETS
from curation.stages.ingest.sources.source_file import SourceFile

# What a stray quote can swallow before the reader gives up the row.
_MAX_FIELD = 128 * 1024


def read_csv(given: SourceFile) -> Iterator[Asked]:
    """Yield the rows of a CSV file (RFC 4180: quoted fields may hold commas and line ends)."""
    return _read(given, {"delimiter": ","})


def read_tsv(given: SourceFile) -> Iterator[Asked]:
    """Yield the rows of a TSV file; quotes are plain characters, as most web lists have them."""
    preset = PRESETS.get(given.source.format)
    if preset and preset.quoted:
        return _read(given, {"delimiter": "\t"})
    return _read(given, {"delimiter": "\t", "quoting": csv.QUOTE_NONE})


def _read(given: SourceFile, dialect: dict[str, Any]) -> Iterator[Asked]:
    refuse_inline(given)
    rows = _fields(given, dialect)
    preset = PRESETS.get(given.source.format)
    header = list(preset.header) if preset and preset.header else next(rows, None)
    if header is None:
        return
    if isinstance(header, Asked) or len(set(header)) != len(header):
        raise RecipeError(
            f"Source {given.source.name!r}: the first line of {given.shown} is not a header with "
            "a name of its own for each column. Write one."
        )
    columns = columns_of(given, header)
    for row in rows:
        if isinstance(row, Asked):
            yield row
        elif len(row) != len(header):
            yield bad_row(repr(row).encode())
        else:
            yield asked_from(columns, dict(zip(header, row, strict=True)))


def _fields(given: SourceFile, dialect: dict[str, Any]) -> Iterator[list[str] | Asked]:
    """Yield the fields of each row, or the bad row that stands for it."""
    csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(_text(given), **dialect)
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


def _text(given: SourceFile) -> Iterator[str]:
    # An overlong line becomes longer than a field may be, so that the reader refuses the row.
    for number, (line, whole) in enumerate(lines(given)):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield line.decode("utf-8", "surrogateescape") + (
            "\n" if whole else "\x00" * (_MAX_FIELD + 1)
        )
