"""Counts what a source holds by its first rows, as `ingest` would read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation.errors import RecipeError, StoreError
from curation.masking import mask_address
from curation.media.files.limits import ROWS
from curation.media.files.location import shown
from curation.media.files.parquet_reading import BoundedParquet
from curation.media.web.params import OutboundParams
from curation.media.web.urls import UrlRules
from curation.stages.ingest.formats.boundary import FileBoundary
from curation.stages.ingest.formats.source_row import SourceRow, bad_row, problem_of_path
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.notices import Notice, Notices, note
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile

ROWS_READ = 20_000
"""Rows of a source that are read; the count of the others follows from sizes."""
_TEXT_READ = 64 * 2**20
"""Characters of the rows that are kept, whatever their number."""
_COUNTED_FILES = 1_000
"""Parquet files whose footers are read for their number of rows."""
_LINE_BYTES = 8
"""Bytes of a line besides its values: separators and its end."""


_ANY_RECIPE = UrlRules()
"""Rules that hold whatever a recipe says."""


@dataclass
class Survey:
    """What a source holds.

    Attributes:
        source: the source.
        files: number of its files; of a folder, of its parts.
        size: bytes of all files.
        rows: number of rows; counted, or estimated.
        is_exact: whether all rows were counted.
        read: the rows that were read, each with its file.
        notices: what else is in the files.
        metadata: characters of the unmapped columns of the rows that were read.
        longest_metadata: those of the row that has most.
    """

    source: Source
    files: int = 0
    size: int = 0
    rows: int = 0
    is_exact: bool = True
    read: list[tuple[SourceFile, SourceRow]] = field(default_factory=list)
    notices: Notices = field(default_factory=dict)
    metadata: int = 0
    longest_metadata: str = ""

    def add(self, file: SourceFile, row: SourceRow) -> None:
        """Add a row that was read, without its unmapped columns: they are the longest part of it."""
        text = row.metadata or ""
        self.metadata += len(text)
        self.longest_metadata = max(self.longest_metadata, text, key=len)
        row.metadata = None
        problem = problem_of_path(file, row) or _problem_of_url(row)
        if problem is not None:
            bad = bad_row(b"", row.where, problem)
            bad.size = row.size
            row = bad
        self.read.append((file, row))

    def count(self, attribute: str) -> int:
        """Return how many of the rows that were read have a value, such as `caption`."""
        return sum(bool(getattr(row, attribute)) for _, row in self.read)

    @property
    def local_images(self) -> int:
        """How many of the rows that were read have their image in a file."""
        return sum(is_local(file, row) for file, row in self.read)

    @property
    def remote_images(self) -> int:
        """How many of the rows that were read have an image on the web that is requested."""
        rows = [row for file, row in self.read if not is_local(file, row) and row.reason is None]
        return sum(bool(row.url or row.path) for row in rows)

    @property
    def without_picture(self) -> int:
        """How many of the rows that were read name no picture, and give no other reason."""
        if not self.source.lists_images:
            return 0
        rows = (row for _, row in self.read if not (row.bad or row.reason))
        return sum(not (row.url or row.path) and row.member is None for row in rows)

    @property
    def bad(self) -> list[SourceRow]:
        """The rows that were read and cannot be used."""
        return [row for _, row in self.read if row.bad]


def _problem_of_url(row: SourceRow) -> str | None:
    """Return why the URL of a row cannot be requested; None if it can, or a file has the image."""
    if row.url is None or row.path is not None or row.member is not None:
        return None
    _, reason = _ANY_RECIPE.check(row.url)
    return f"{reason} ({shown(mask_address(row.url))})" if reason else None


def is_local(file: SourceFile, row: SourceRow) -> bool:
    """Whether the image of a row is in a file."""
    return row.member is not None or (row.path is not None and not file.source.is_web)


def survey(source: Source, outbound: OutboundParams, most: int = ROWS_READ) -> Survey:
    """Read the first rows of a source.

    Args:
        source: the source.
        outbound: how files on the web are requested.
        most: rows that are read.

    Raises:
        RecipeError: there is no file, a mapped column is missing or of a type that cannot hold it, or
            no row can be read.
        StoreError: the file system failed.
    """
    listing = list_source(source, most, outbound)
    survey = Survey(source, len(listing.files), notices=dict(listing.notices))
    survey.size = sum(_size(file) for file in listing.files)
    finished, problems = [], []
    for file in listing.files:
        if len(survey.read) >= most or sum(row.size for _, row in survey.read) > _TEXT_READ:
            break
        boundary = FileBoundary(file)
        if _read(file, boundary, survey, most):
            finished.append(file)
        if boundary.unreadable:
            problems.append(boundary.unreadable)
    if problems and len(survey.bad) == len(survey.read):
        raise RecipeError(*problems[:1])
    if not survey.read:
        raise RecipeError(
            f"Source {source.name!r}: its files hold no row",
            fix="Name files with rows, or leave it out",
        )
    survey.is_exact = len(finished) == len(listing.files)
    survey.rows = len(survey.read) if survey.is_exact else _rows(listing.files, finished, survey)
    return survey


def _size(file: SourceFile) -> int:
    members = sum(member.size for member in file.members)
    return members or file.size or 0


def _read(file: SourceFile, boundary: FileBoundary, survey: Survey, most: int) -> bool:
    """Read rows of a file; return whether it was read to its end."""
    entry, module = FORMATS[file.source.reader], FORMATS.load(file.source.reader)
    items: Iterator[Any] = boundary.items(getattr(module, entry.function)(file))
    # A tar, and a part of a folder, is read as a whole anyway.
    most = most if not entry.holds_images else ROWS
    text = sum(row.size for _, row in survey.read)
    for item in items:
        if isinstance(item, Notice):
            note(survey.notices, item)
            continue
        if len(survey.read) >= most or text > _TEXT_READ:
            return False
        text += item.size
        survey.add(file, item)
    return True


def _rows(files: list[SourceFile], finished: list[SourceFile], survey: Survey) -> int:
    """Estimate the rows of all files from those that were read."""
    if files[0].members:
        return sum(len(file.members) for file in files)
    if survey.source.reader == "parquet":
        counted = _in_footers(files[:_COUNTED_FILES])
        return round(counted * len(files) / len(files[:_COUNTED_FILES]))
    if finished:
        of_finished = {file.name for file in finished}
        rows = sum(file.name in of_finished for file, _ in survey.read)
        return round(rows * survey.size / max(1, sum(map(_size, finished))))
    text = sum(row.size for _, row in survey.read) / len(survey.read) + _LINE_BYTES
    return max(len(survey.read), round(survey.size / text))


def _in_footers(files: list[SourceFile]) -> int:
    rows = 0
    for file in files:
        try:
            with file.open() as stream:
                rows += BoundedParquet(stream).file.metadata.num_rows
        except (StoreError, pa.ArrowException, OSError, ValueError):
            # Its rows are counted as bad when it is read.
            continue
    return rows
