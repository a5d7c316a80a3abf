"""CSV and TSV, with a header line unless the published list is known to have none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from curation.errors import RecipeError
from curation.media.files.limits import HEAD_LINES
from curation.stages.ingest.formats.boundary import row_or_reason
from curation.stages.ingest.formats.lines import lines, look_ahead
from curation.stages.ingest.formats.mapped import (
    Columns,
    check_no_inline_images,
    check_unique,
    merged,
    resolve_columns,
    row_from_columns,
)
from curation.stages.ingest.formats.quoting import (
    HEAD_CHARACTERS,
    READERS,
    Line,
    Lines,
    Record,
    detect,
    is_quoted,
)
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.presets import PRESETS
from curation.stages.ingest.sources.source_file import SourceFile

_CONVERT = "convert the file, as by iconv -f CP1252 -t UTF-8"
_MARK = "\ufeff"
_NULL = r"\N"
"""How MySQL, PostgreSQL and Hive write a missing value."""


def read_csv(file: SourceFile) -> Iterator[SourceRow | Notice]:
    """Yield the rows of a CSV file; quoted fields may hold commas and line ends."""
    return _read(file, ",")


def read_tsv(file: SourceFile) -> Iterator[SourceRow | Notice]:
    """Yield the rows of a TSV file."""
    return _read(file, "\t")


def _read(file: SourceFile, delimiter: str) -> Iterator[SourceRow | Notice]:
    check_no_inline_images(file)
    quoting, text = _quoting(file, delimiter)
    records = READERS[quoting](Lines(text), delimiter)
    preset = PRESETS.get(file.source.format)
    header = list(preset.header) if preset and preset.header else _header(file, records)
    if header is None:
        return
    columns = resolve_columns(file, header)
    check_unique(file, header, columns)
    layout = _Layout(header, columns, file.partitions, len(set(header)) == len(header))
    notes_quotes = quoting == "none" and not (file.source.quoting or preset)
    for record in records:
        if notes_quotes and any(map(is_quoted, record.fields)):
            yield Notice("plain_quotes", f"{file.display_name} line {record.line.number}")
        if record.problem or record.fields:
            where = f"line {record.line.number}"
            yield row_or_reason(partial(_row, record, layout, where), where, record.line.text)


class _Layout(NamedTuple):
    """The columns of a file, those in the names of its folders, and whether all have other names."""

    header: list[str]
    columns: Columns
    partitions: dict[str, str | None]
    unique: bool


def _header(file: SourceFile, records: Iterator[Record]) -> list[str] | None:
    """Return the names of the columns; None for a file without a line."""
    header = next((r for r in records if r.problem or r.fields), None)
    if header is None:
        return None
    place = f"Source {file.source.name!r}: the first line of {file.display_name} is not"
    if header.problem:
        raise RecipeError(
            f"{place} a header with the names of the columns ({header.problem})",
            fix="Add such a line",
        )
    if not_utf8 := _not_utf8(header.fields):
        raise RecipeError(
            f"{place} a header with the names of the columns ({not_utf8})", fix=f"C{_CONVERT[1:]}"
        )
    return header.fields


def _row(record: Record, layout: _Layout, where: str) -> SourceRow:
    fields, header = _without_mark(record.fields), layout.header
    problem = record.problem
    if not problem and (not_utf8 := _not_utf8(fields)):
        problem = f"{not_utf8}; {_CONVERT}"
    if not problem and len(fields) != len(header):
        problem = f"{len(fields)} fields, but the header has {len(header)}"
    if not problem and fields == header:
        problem = "it repeats the header"
    if problem:
        return bad_row(record.line.text.encode("utf-8", "surrogateescape"), where, problem)
    values: list[Any] = [None if f == _NULL else f for f in fields] if _NULL in fields else fields
    by_name = dict(zip(header, values, strict=True)) if layout.unique else merged(header, values)
    row = row_from_columns(
        layout.columns, layout.partitions | by_name if layout.partitions else by_name
    )
    row.where = where
    return row


def _without_mark(fields: list[str]) -> list[str]:
    """Return fields without a byte order mark: one stands there where marked files were joined."""
    if fields and fields[0].startswith(_MARK):
        return [fields[0].removeprefix(_MARK), *fields[1:]]
    return fields


def _not_utf8(fields: list[str]) -> str:
    joined = "".join(fields)
    if joined.isascii():
        return ""
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        byte = ord(joined[error.start]) - 0xDC00
        return f"it is not UTF-8 (byte {byte:#04x})"
    return ""


def _quoting(file: SourceFile, delimiter: str) -> tuple[str, Iterator[Line]]:
    """Return how a file is written, and its lines."""
    preset, text = PRESETS.get(file.source.format), _lines(file)
    if file.source.quoting:
        return file.source.quoting, text
    if preset and preset.quoted:
        return "doubled", text
    size = count = 0

    def is_enough(line: Line) -> bool:
        nonlocal size, count
        size, count = size + len(line.text), count + 1
        return size > HEAD_CHARACTERS or count == HEAD_LINES

    head, text = look_ahead(text, is_enough)
    has_header = not (preset and preset.header)
    return detect(head, delimiter, has_header), text


def _lines(file: SourceFile) -> Iterator[Line]:
    for number, (line, is_complete) in enumerate(lines(file), 1):
        yield Line(number, line.decode("utf-8", "surrogateescape"), is_complete)
