"""Bytes that lie in files: alone, in a Parquet column, or in a tar."""

from __future__ import annotations

import tarfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import StoreError
from curation.media.files.location import OutsideFolderError, open_place, split_location, unescape
from curation.media.files.parquet_images import image_values, inline_column
from curation.media.files.tar import is_compressed, member_name, open_tar
from curation.media.web.refusal import RefusedError
from curation.stages.fetch.outcome import Got, Wanted

_ROWS = 32
_READ_AHEAD = 1 << 20
_PARQUET = b"PAR1"
Inside = list[tuple[str, Wanted]]


def read_local(wanted: Iterable[Wanted], max_bytes: int) -> Iterator[Got]:
    """Yield the bytes of rows with a location; rows of one container are read in one pass.

    Raises:
        StoreError: a file with many images has vanished or is damaged since ingest.
    """
    located = ((*split_location(row.location or ""), row) for row in wanted)
    for place, group in groupby(located, key=lambda found: found[0]):
        contained: Inside = []
        for _, inside, row in group:
            if inside is None:
                yield _whole_file(place, row, max_bytes)
            else:
                contained.append((inside, row))
        if contained:
            yield from _container(place, contained, max_bytes)


def _whole_file(place: str, row: Wanted, max_bytes: int) -> Got:
    try:
        return Got(row, content=_read_file(place, max_bytes))
    except RefusedError as refused:
        return Got(row, reason=refused.reason)


def _read_file(place: str, max_bytes: int) -> bytes:
    # A pipe or a device would never end.
    if "://" not in place and not Path(unescape(place)).is_file():
        raise RefusedError("file_missing")
    try:
        with open_place(place) as stream:
            content = stream.read(max_bytes + 1)
    except OutsideFolderError as error:
        raise RefusedError("outside_folder") from error
    except FileNotFoundError as error:
        raise RefusedError("file_missing") from error
    except OSError as error:
        raise RefusedError("unreadable") from error
    if len(content) > max_bytes:
        raise RefusedError("too_large")
    return bytes(content)


def _container(place: str, contained: Inside, max_bytes: int) -> Iterator[Got]:
    try:
        with open_place(place) as stream:
            magic = stream.read(len(_PARQUET))
            stream.seek(0)
            if magic == _PARQUET:
                yield from _parquet(stream, contained, max_bytes)
            else:
                yield from _tar(stream, place, contained, max_bytes)
    except (OutsideFolderError, OSError, tarfile.TarError, pa.ArrowException) as error:
        raise StoreError(
            f"{place} cannot be read any more ({error}), though ingest has read it. Put the file "
            "back, or run ingest again."
        ) from error


def _parquet(stream: pa.NativeFile, contained: Inside, max_bytes: int) -> Iterator[Got]:
    file = pq.ParquetFile(stream, buffer_size=_READ_AHEAD)
    by_column: dict[str, dict[int, Wanted]] = {}
    for inside, row in contained:
        column, _, number = inside.rpartition("/")
        by_column.setdefault(column, {})[int(number)] = row
    for column, rows in by_column.items():
        path = inline_column(file.schema_arrow, column) or column
        numbers, start = sorted(rows), 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if bisect_left(numbers, start) < bisect_left(numbers, end):
                batches = file.iter_batches(_ROWS, row_groups=[group], columns=[path])
                yield from _of_group(batches, column, start, rows, max_bytes)
            start = end
        yield from (Got(row, reason="file_missing") for n, row in rows.items() if n >= start)


def _of_group(
    batches: Iterator[pa.RecordBatch],
    column: str,
    start: int,
    rows: dict[int, Wanted],
    max_bytes: int,
) -> Iterator[Got]:
    for batch in batches:
        values = image_values(batch, column)
        for i in range(len(values)):
            row = rows.get(start + i)
            if row is None:
                continue
            content = values[i].as_py()
            if content is None:
                yield Got(row, reason="no_image")
            elif len(content) > max_bytes:
                yield Got(row, reason="too_large")
            else:
                yield Got(row, content=content)
        start += len(values)


def _tar(stream: pa.NativeFile, place: str, contained: Inside, max_bytes: int) -> Iterator[Got]:
    missing, reason = dict(contained), "file_missing"
    name = place.partition("?")[0]
    # A damaged tar is data, which ingest has counted; a file system that fails is not.
    damage = (tarfile.TarError, EOFError, *((OSError,) if is_compressed(name) else ()))
    try:
        with open_tar(stream, name) as tar:
            for member in tar:
                if not missing:
                    return
                inside = member_name(member)
                if inside not in missing or not member.isreg():
                    continue
                if member.size > max_bytes:
                    yield Got(missing.pop(inside), reason="too_large")
                    continue
                found = tar.extractfile(member)
                content = found.read() if found else b""
                yield Got(missing.pop(inside), content=content)
    except damage:
        reason = "unreadable"
    yield from (Got(row, reason=reason) for row in missing.values())
