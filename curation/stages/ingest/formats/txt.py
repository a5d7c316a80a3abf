"""Plain lists: a URL a line."""

from __future__ import annotations

from collections.abc import Iterator

from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.source_row import Asked, bad_row
from curation.stages.ingest.sources.source_file import SourceFile


def read(given: SourceFile) -> Iterator[Asked]:
    """Yield a row a line; empty lines and those that begin with `#` are none."""
    for number, (line, whole) in enumerate(lines(given)):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        try:
            yield Asked(url=line.decode()) if whole else bad_row(line)
        except UnicodeDecodeError:
            yield bad_row(line)
