"""JSON Lines: one object per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from curation.errors import RecipeError
from curation.media.files.limits import LINE_BYTES
from curation.stages.ingest.formats.boundary import UnreadableError, row_or_reason
from curation.stages.ingest.formats.lines import UTF8_MARK, lines, look_ahead
from curation.stages.ingest.formats.mapped import (
    check_no_inline_images,
    resolve_columns,
    row_from_columns,
)
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import clean, parse_json
from curation.stages.ingest.sources.source_file import SourceFile

_SAMPLED_OBJECTS = 1000
"""Objects in which the mapped fields are looked for."""
_BLANK = b" \t\r\n\x1e"
"""What may stand around an object; jq --seq writes a record separator before each."""


class _Object(NamedTuple):
    where: str
    values: dict[str, Any]
    content: bytes


def read(file: SourceFile) -> Iterator[SourceRow]:
    """Yield the rows of a file; a line that is not a JSON object is a bad row, empty lines are skipped.

    Raises:
        RecipeError: none of the first 1,000 lines is an object, or a mapped field is in no object.
    """
    check_no_inline_images(file)
    (first_rows, rows), partitions = _looked_ahead(file), file.partitions
    objects = [row.values for row in first_rows if isinstance(row, _Object)]
    if first_rows and not objects:
        raise _no_objects(file, str(getattr(first_rows[0], "unreadable", "")))
    names = dict.fromkeys(clean(key) for values in objects for key in values)
    if objects:
        # Objects leave out what they have not, so a field may come late.
        names |= dict.fromkeys(_fields_of_others(file, names))
    columns = resolve_columns(file, names) if objects else file.source.column_candidates
    for item in rows:
        if isinstance(item, SourceRow):
            yield item
        else:
            make = partial(row_from_columns, columns, partitions | item.values)
            row = row_or_reason(make, item.where, item.content)
            row.where = item.where
            yield row


def _fields_of_others(file: SourceFile, names: Iterable[str]) -> set[str]:
    """Return the mapped fields that are not among some names, but in an object of the file."""
    missing = set(file.source.columns.values()).difference(names, file.partitions)
    wanted = set(missing)
    with suppress(UnreadableError):
        for row in _objects(file) if missing else ():
            if isinstance(row, _Object):
                missing.difference_update(row.values)
            if not missing:
                break
    return wanted - missing


def _looked_ahead(
    file: SourceFile,
) -> tuple[list[_Object | SourceRow], Iterator[_Object | SourceRow]]:
    """Return the first rows, and all. Few if they are long: objects take many times their text."""
    size = count = 0

    def is_enough(row: _Object | SourceRow) -> bool:
        nonlocal size, count
        size, count = size + (len(row.content) if isinstance(row, _Object) else 0), count + 1
        return size >= LINE_BYTES or count == _SAMPLED_OBJECTS

    return look_ahead(_objects(file), is_enough)


def _objects(file: SourceFile) -> Iterator[_Object | SourceRow]:
    is_first = True
    for number, (line, is_complete) in enumerate(lines(file), 1):
        content, where = line.removeprefix(UTF8_MARK).strip(_BLANK), f"line {number}"
        if not content:
            continue
        if is_first and content.startswith(b"["):
            raise _no_objects(file, "it begins with `[`: it is one JSON array")
        is_first = False
        try:
            value = parse_json(content.decode()) if is_complete else None
        except ValueError as error:
            yield bad_row(content, where, f"it is not JSON in UTF-8 ({error})")
            continue
        if isinstance(value, dict):
            yield _Object(where, value, content)
        else:
            problem = "it is not an object" if is_complete else "it is too long"
            yield bad_row(content, where, problem)


def _no_objects(file: SourceFile, problem: str) -> RecipeError:
    return RecipeError(
        f"{file.label} does not hold one JSON object a line ({problem})",
        fix="Write it so: jq -c '.[]' for an array, jq -c . for objects over several lines",
    )
