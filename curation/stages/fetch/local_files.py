"""Images in files: image files, images in a Parquet column, and members of tar files."""

from __future__ import annotations

import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import StoreError
from curation.media.files.location import (
    OutsideFolderError,
    open_location,
    split_location,
    unescape,
)
from curation.media.files.parquet_images import image_leaf, image_values, read_leaves
from curation.media.files.tar import damage_of, members, open_tar
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.request import FetchRequest, FetchResult

_BATCH_ROWS = 32
_READ_AHEAD_BYTES = 1 << 20
_PARQUET_MAGIC = b"PAR1"
Contained = list[tuple[str, FetchRequest]]
"""Rows of one container file, with the place of each within it: `column/row` or that of a member."""
Opener = Callable[[str], pa.NativeFile]
"""Opens the file of a location."""


def read_local(
    rows: Iterable[FetchRequest], max_bytes: int, open_file: Opener = open_location
) -> Iterator[FetchResult]:
    """Yield the bytes of rows with a location; successive rows of one file are read in one pass.

    Args:
        rows: each with a location.
        max_bytes: largest size of an image.
        open_file: opens the file of a location.

    Raises:
        StoreError: a file with many images is missing or damaged since ingest read it.
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
            yield from _container(path, contained, max_bytes, open_file)


def _image_file(path: str, row: FetchRequest, max_bytes: int, open_file: Opener) -> FetchResult:
    try:
        return FetchResult(row, content=_read_file(path, max_bytes, open_file))
    except FetchError as error:
        return FetchResult(row, reason=error.reason)


def _read_file(path: str, max_bytes: int, open_file: Opener) -> bytes:
    # Reading a pipe or a device would never end.
    if "://" not in path and not Path(unescape(path)).is_file():
        raise FetchError("file_missing")
    try:
        with open_file(path) as stream:
            content = stream.read(max_bytes + 1)
    except OutsideFolderError as error:
        raise FetchError("outside_folder") from error
    except FileNotFoundError as error:
        raise FetchError("file_missing") from error
    except OSError as error:
        raise FetchError("unreadable") from error
    if len(content) > max_bytes:
        raise FetchError("too_large")
    return bytes(content)


def _container(
    path: str, contained: Contained, max_bytes: int, open_file: Opener
) -> Iterator[FetchResult]:
    try:
        with open_file(path) as stream:
            magic = stream.read(len(_PARQUET_MAGIC))
            stream.seek(0)
            if magic == _PARQUET_MAGIC:
                yield from _parquet(stream, contained, max_bytes)
            else:
                yield from _tar(stream, contained, max_bytes)
    except (OutsideFolderError, OSError, tarfile.TarError, pa.ArrowException) as error:
        raise StoreError(
            f"{path} cannot be read any more ({error}), although ingest has read it. Put the file "
            "back, or run ingest again."
        ) from error


def _parquet(stream: pa.NativeFile, contained: Contained, max_bytes: int) -> Iterator[FetchResult]:
    file = pq.ParquetFile(stream, buffer_size=_READ_AHEAD_BYTES)
    by_column: dict[str, dict[int, FetchRequest]] = {}
    for inside, row in contained:
        column, _, number = unescape(inside).rpartition("/")
        by_column.setdefault(column, {})[int(number)] = row
    for column, rows in by_column.items():
        at = file.schema_arrow.get_field_index(column)
        leaf = image_leaf(file.schema_arrow, at) if at >= 0 else None
        if leaf is None:
            raise OSError(f"the column {column!r} holds no images")
        numbers, start = sorted(rows), 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if bisect_left(numbers, start) < bisect_left(numbers, end):
                batches = read_leaves(file, [leaf], _BATCH_ROWS, [group])
                yield from _row_group(batches, start, rows, max_bytes)
            start = end
        missing = (row for number, row in rows.items() if number >= start)
        yield from (FetchResult(row, reason="file_missing") for row in missing)


def _row_group(
    batches: Iterator[pa.RecordBatch],
    start: int,
    rows: dict[int, FetchRequest],
    max_bytes: int,
) -> Iterator[FetchResult]:
    for batch in batches:
        values = image_values(batch.column(0))
        for i in range(len(values)):
            row = rows.get(start + i)
            if row is None:
                continue
            content = values[i].as_py()
            if content is None:
                yield FetchResult(row, reason="no_image")
            elif len(content) > max_bytes:
                yield FetchResult(row, reason="too_large")
            else:
                yield FetchResult(row, content=content)
        start += len(values)


def _tar(stream: pa.NativeFile, contained: Contained, max_bytes: int) -> Iterator[FetchResult]:
    # Links in a tar make several rows of one member.
    missing: dict[str, list[FetchRequest]] = {}
    for place, row in contained:
        missing.setdefault(place, []).append(row)
    reason = "file_missing"
    with open_tar(stream) as tar:
        try:
            for place, info in members(tar):
                rows = missing.get(place) if info.isreg() else None
                if rows:
                    content = None if info.size > max_bytes else _content(tar, info)
                    # Not before: the content may be what is damaged.
                    del missing[place]
                    reason_of = "too_large" if content is None else None
                    yield from (FetchResult(row, content=content, reason=reason_of) for row in rows)
                if not missing:
                    return
        except damage_of(tar):
            # Only damage of the tar itself fails rows; an error of the file system stops the run.
            reason = "unreadable"
    yield from (FetchResult(row, reason=reason) for rows in missing.values() for row in rows)


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    extracted = tar.extractfile(info)
    return extracted.read() if extracted else b""
