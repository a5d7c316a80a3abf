"""Plain text lists: one URL per line."""

from __future__ import annotations

from collections.abc import Iterator

from curation.media.files.limits import FIELD_CHARACTERS
from curation.stages.ingest.formats.lines import UTF8_MARK, lines
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import as_json
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.source_file import SourceFile


def read(file: SourceFile) -> Iterator[SourceRow | Notice]:
    """Yield one row per line; empty lines are skipped, and lines that begin with `#` are noted.

    A line also ends at a carriage return within it: parts of a file may come from other systems.
    """
    metadata = as_json(file.partitions)
    for number, (line, is_complete) in enumerate(lines(file, FIELD_CHARACTERS), 1):
        where = f"line {number}"
        # Where marked files were joined, a mark stands at the start of a line.
        line = line.removeprefix(UTF8_MARK)
        for part in map(bytes.strip, line.split(b"\r") if is_complete else [line]):
            if part.startswith(b"#"):
                yield Notice("comment_line", f"{file.display_name} {where}")
            elif not is_complete:
                yield bad_row(part, where, "it is too long")
            elif part:
                yield _row(part, where, metadata)


def _row(line: bytes, where: str, metadata: str | None) -> SourceRow:
    if b"\t" in line:
        # It would be removed, as by browsers, and what follows would be a part of the URL.
        return bad_row(line, where, "it holds a tab; read a list with columns by `format: tsv`")
    try:
        return SourceRow(url=line.decode(), metadata=metadata)
    except UnicodeDecodeError:
        return bad_row(line, where, "it is not UTF-8")
