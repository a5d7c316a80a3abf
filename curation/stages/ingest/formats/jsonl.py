"""JSON Lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.mapped import (
    check_no_inline_images,
    resolve_columns,
    row_from_columns,
)
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import clean
from curation.stages.ingest.sources.source_file import SourceFile

_SAMPLED_OBJECTS = 1000
"""Objects in which the mapped fields are looked for."""


def read(file: SourceFile) -> Iterator[SourceRow]:
    """Yield the rows of a file; a line that is not a JSON object is a bad row, empty lines are skipped.

    Raises:
        RecipeError: a mapped field is in none of the first 1,000 objects.
    """
    check_no_inline_images(file)
    rows = _objects(file)
    first_rows = list(islice(rows, _SAMPLED_OBJECTS))
    objects = [row for row in first_rows if isinstance(row, dict)]
    names = dict.fromkeys(clean(key) for row in objects for key in row)
    columns = resolve_columns(file, names) if objects else file.source.column_candidates
    for row in chain(first_rows, rows):
        yield row if isinstance(row, SourceRow) else row_from_columns(columns, row)


def _objects(file: SourceFile) -> Iterator[dict[str, Any] | SourceRow]:
    for number, (line, is_complete) in enumerate(lines(file)):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            value = json.loads(line) if is_complete else None
        except (ValueError, RecursionError):
            value = None
        yield value if isinstance(value, dict) else bad_row(line)
