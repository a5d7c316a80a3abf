"""Plain text lists: one URL per line."""

from __future__ import annotations

from collections.abc import Iterator

from curation.media.files.limits import FIELD_CHARACTERS
from curation.stages.ingest.formats.lines import lines
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import as_json
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.source_file import SourceFile


def read(file: SourceFile) -> Iterator[SourceRow | Notice]:
    """Yield one row per line; empty lines are skipped, and lines that begin with `#` are noted."""
    metadata = as_json(file.partitions)
    for number, (line, is_complete) in enumerate(lines(file, FIELD_CHARACTERS), 1):
        line, where = line.strip(), f"line {number}"
        if line.startswith(b"#"):
            yield Notice("comment_line", f"{file.display_name} {where}")
        elif not is_complete:
            yield bad_row(line, where, "it is too long")
        elif line:
            try:
                yield SourceRow(url=line.decode(), metadata=metadata)
            except UnicodeDecodeError:
                yield bad_row(line, where, "it is not UTF-8")
