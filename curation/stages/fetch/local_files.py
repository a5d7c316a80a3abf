"""Images in files: image files, images in a Parquet column, and members of tar files."""

from __future__ import annotations

import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, pairwise

import pyarrow as pa

from curation.errors import StoreError
from curation.media.files.location import (
    FileSystemError,
    OutsideFolderError,
    open_location,
    shown,
    split_location,
    unescape,
    version_of,
)
from curation.media.files.parquet_images import image_at, image_leaf, image_values
from curation.media.files.parquet_reading import Batch, BoundedParquet, Unread
from curation.media.files.tar import TAR_DAMAGE, members, open_tar
from curation.media.regular_file import SpecialFileError
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.request import LARGE_BYTES, FetchRequest, FetchResult

_BATCH_ROWS = 32
_PARQUET_MAGIC = b"PAR1"
_CHANGED = (OutsideFolderError, FileSystemError, *TAR_DAMAGE, pa.ArrowException)
"""What opening a container raises that is not what ingest has read any more."""
Contained = list[tuple[str, FetchRequest]]
"""Rows of one container file, with the place of each within it: `column/row` or that of a member."""
Opener = Callable[[str], pa.NativeFile]
"""Opens the file of a location."""


def read_local(
    rows: Iterable[FetchRequest],
    max_bytes: int,
    open_file: Opener = open_location,
    versions: Mapping[str, list[int]] | None = None,
) -> Iterator[FetchResult]:
    """Yield the bytes of rows with a location; successive rows of one file are read in one pass.

    Args:
        rows: each with a location.
        max_bytes: largest size of an image.
        open_file: opens the file of a location.
        versions: `version_of` files with many images, by location, when ingest read them.

    Raises:
        StoreError: a file with many images is missing, damaged, or another one since ingest read it.
    """
    located = ((*split_location(row.location or ""), row) for row in rows)
    for path, group in groupby(located, key=lambda item: item[0]):
        contained: Contained = []
        for _, inside, row in group:
            if inside is None:
                yield _image_file(path, row, max_bytes, open_file)
            else:
                contained.append((inside, row))
        if contained:
            yield from _container(path, contained, max_bytes, open_file, (versions or {}).get(path))


def _image_file(path: str, row: FetchRequest, max_bytes: int, open_file: Opener) -> FetchResult:
    try:
        return FetchResult(row, content=_read_file(path, max_bytes, open_file))
    except FetchError as error:
        return FetchResult(row, reason=error.reason)


def _read_file(path: str, max_bytes: int, open_file: Opener) -> bytes:
    try:
        with open_file(path) as stream:
            content = stream.read(max_bytes + 1)
    except OutsideFolderError as error:
        raise FetchError("outside_folder") from error
    except (FileNotFoundError, NotADirectoryError, SpecialFileError) as error:
        raise FetchError("file_missing") from error
    except (OSError, ValueError) as error:
        raise FetchError("unreadable") from error
    if len(content) > max_bytes:
        raise FetchError("too_large")
    return bytes(content)


def _container(
    path: str,
    contained: Contained,
    max_bytes: int,
    open_file: Opener,
    version: list[int] | None,
) -> Iterator[FetchResult]:
    try:
        with open_file(path) as stream:
            if version is not None and version_of(stream) != version:
                # Its places may hold other images now, and rows their old captions.
                raise StoreError(
                    f"{shown(unescape(path))} has changed since ingest read it",
                    fix="Run the whole recipe again: ingest reads it anew",
                )
            magic = stream.read(len(_PARQUET_MAGIC))
            stream.seek(0)
            if magic == _PARQUET_MAGIC:
                yield from _parquet(stream, contained, max_bytes)
            else:
                yield from _tar(stream, contained, max_bytes)
    except _CHANGED as error:
        raise StoreError(
            f"{path} cannot be read any more ({error}), although ingest has read it",
            fix="Put the file back, or run ingest again",
        ) from error


def _parquet(stream: pa.NativeFile, contained: Contained, max_bytes: int) -> Iterator[FetchResult]:
    bounded = BoundedParquet(stream)
    schema, ends = bounded.file.schema_arrow, bounded.group_starts
    by_column: dict[str, dict[int, FetchRequest]] = {}
    for inside, row in contained:
        column, _, number = unescape(inside).rpartition("/")
        by_column.setdefault(column, {})[int(number)] = row
    for column, rows in by_column.items():
        at = schema.get_field_index(column)
        leaf = image_leaf(schema, at) if at >= 0 else None
        if leaf is None:
            raise OSError(f"the column {column!r} holds no images")
        numbers = sorted(rows)
        groups = [
            group
            for group, (start, end) in enumerate(pairwise(ends))
            if bisect_left(numbers, start) < bisect_left(numbers, end)
        ]
        for part in bounded.batches([leaf], _BATCH_ROWS, groups):
            yield from _rows_of(part, rows, numbers, max_bytes)
            # It would stay while the next one is read.
            del part
        missing = (rows[number] for number in numbers if number >= ends[-1])
        yield from (FetchResult(row, reason="file_missing") for row in missing)


def _rows_of(
    part: Batch | Unread, rows: dict[int, FetchRequest], numbers: list[int], max_bytes: int
) -> Iterator[FetchResult]:
    count = part.rows if isinstance(part, Unread) else part.rows.num_rows
    wanted = numbers[bisect_left(numbers, part.start) : bisect_left(numbers, part.start + count)]
    if isinstance(part, Unread):
        reason = "unreadable" if part.is_damaged else "too_large"
        yield from (FetchResult(rows[number], reason=reason) for number in wanted)
        return
    values = image_values(part.rows.column(0))
    for number in wanted:
        content = image_at(values, number - part.start)
        if content is None:
            yield FetchResult(rows[number], reason="no_image")
        elif content.size > max_bytes:
            yield FetchResult(rows[number], reason="too_large")
        else:
            if content.size > LARGE_BYTES:
                # What reading it took is free by now, and would stay beside its copy.
                pa.default_memory_pool().release_unused()
            yield FetchResult(rows[number], content=content.to_pybytes())


def _tar(stream: pa.NativeFile, contained: Contained, max_bytes: int) -> Iterator[FetchResult]:
    # Links in a tar make several rows of one member.
    missing: dict[str, list[FetchRequest]] = {}
    for place, row in contained:
        missing.setdefault(place, []).append(row)
    reason = "file_missing"
    with open_tar(stream) as tar:
        try:
            for place, info, problem in members(tar):
                rows = missing.get(place) if info.isreg() and not problem else None
                if rows:
                    content = None if info.size > max_bytes else _content(tar, info)
                    # Not before: the content may be what is damaged.
                    del missing[place]
                    reason_of = "too_large" if content is None else None
                    yield from (FetchResult(row, content=content, reason=reason_of) for row in rows)
                if not missing:
                    return
        except FileSystemError:
            # Only damage of the tar itself fails rows.
            raise
        except TAR_DAMAGE:
            reason = "unreadable"
    yield from (FetchResult(row, reason=reason) for rows in missing.values() for row in rows)


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    extracted = tar.extractfile(info)
    return extracted.read() if extracted else b""
