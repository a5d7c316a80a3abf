"""JSON lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.mapped import asked_from, columns_of, refuse_inline
from curation.stages.ingest.formats.source_row import Asked, bad_row
from curation.stages.ingest.formats.values import clean
from curation.stages.ingest.sources.source_file import SourceFile

_LOOK_AT = 1000


def read(given: SourceFile) -> Iterator[Asked]:
    """Yield the rows of a file; a line that is no object is a bad row, an empty line is none.

    Raises:
        RecipeError: a mapped field is in none of the first 1,000 objects.
    """
    refuse_inline(given)
    rows = _objects(given)
    first = list(islice(rows, _LOOK_AT))
    objects = [row for row in first if isinstance(row, dict)]
    names = dict.fromkeys(clean(key) for row in objects for key in row)
    columns = columns_of(given, names) if objects else given.source.mapped
    for row in chain(first, rows):
        yield row if isinstance(row, Asked) else asked_from(columns, row)


def _objects(given: SourceFile) -> Iterator[dict[str, Any] | Asked]:
    for number, (line, whole) in enumerate(lines(given)):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            found = json.loads(line) if whole else None
        except (ValueError, RecursionError):
            found = None
        yield found if isinstance(found, dict) else bad_row(line)
