"""Plain text lists: one URL per line."""

from __future__ import annotations

from collections.abc import Iterator

from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.sources.source_file import SourceFile


def read(file: SourceFile) -> Iterator[SourceRow]:
    """Yield one row per line; empty lines and lines that begin with `#` are skipped."""
    for number, (line, is_complete) in enumerate(lines(file)):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        try:
            yield SourceRow(url=line.decode()) if is_complete else bad_row(line)
        except UnicodeDecodeError:
            yield bad_row(line)
