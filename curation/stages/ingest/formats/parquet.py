"""Parquet: lists of URLs or paths, or encoded images in a column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import RecipeError
from curation.media.files.limits import BATCH_BYTES, VALUES_RATIO
from curation.media.files.location import FileSystemError, escape
from curation.media.files.parquet_images import (
    image_at,
    image_leaf,
    image_values,
    is_bytes,
    leaves,
    path_leaf,
    path_values,
    plain_type,
)
from curation.media.files.parquet_pages import Budget
from curation.media.files.parquet_reading import BoundedParquet, Unread
from curation.stages.ingest.formats.arrow_values import (
    decoded,
    parts_of,
    python_bytes,
    python_values,
)
from curation.stages.ingest.formats.boundary import row_or_reason, unreadable
from curation.stages.ingest.formats.mapped import (
    Columns,
    check_unique,
    merged,
    resolve_columns,
    row_from_columns,
    set_text,
    take_address,
)
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.source_file import SourceFile

BATCH_ROWS = 4096
BATCH_ROWS_WITH_IMAGES = 64


@dataclass(frozen=True)
class Layout:
    """What a format knows about one of its tables.

    Attributes:
        columns: by the field of a row that they hold.
        row: makes a row of these columns and the values by column.
        has_paths: images that are not in the column of images may be in files that it names.
        is_complete: images that are not in the column of images are nowhere: URLs say where they were.
    """

    columns: Columns
    row: Callable[[Columns, Mapping[str, Any]], SourceRow] = row_from_columns
    has_paths: bool = False
    is_complete: bool = False


LayoutOf = Callable[[SourceFile, pa.Schema], Layout]
"""Returns the layout of a file with a schema."""


def read(file: SourceFile) -> Iterator[SourceRow | Notice]:
    """Yield the rows of a file. See `read_table`."""
    return read_table(file, _layout)


def _layout(file: SourceFile, schema: pa.Schema) -> Layout:
    return Layout(resolve_columns(file, schema.names))


def read_table(file: SourceFile, layout_of: LayoutOf) -> Iterator[SourceRow | Notice]:
    """Yield the rows of a file; inline images are read only if rows have neither a key nor a URL.

    Args:
        file: the file.
        layout_of: what the format knows about it.

    Raises:
        RecipeError: a mapped column is missing, is not unique, or has a type that cannot hold the
            field that it is mapped to.
        UnreadableError: the file is damaged, or its footer is too large.
    """
    try:
        with file.open() as stream:
            bounded = BoundedParquet(stream)
            layout, values = layout_of(file, bounded.file.schema_arrow), _budget_of_values(bounded)
            yield from _rows(_Opened(file, bounded, layout, values))
    except FileSystemError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, f"cannot be read as Parquet ({error})") from error


@dataclass(frozen=True)
class _Opened:
    """An open file, and what its format knows about it."""

    file: SourceFile
    bounded: BoundedParquet
    layout: Layout
    values: Budget

    @property
    def columns(self) -> Columns:
        return self.layout.columns

    @property
    def parquet(self) -> pq.ParquetFile:
        return self.bounded.file

    @property
    def schema(self) -> pa.Schema:
        return self.parquet.schema_arrow

    @cached_property
    def image(self) -> int | None:
        """The place of the column of images."""
        return self.place(self.columns["image"][0]) if "image" in self.columns else None

    def place(self, name: str) -> int:
        """Return the place of a column; -1 if only the names of folders hold it."""
        return self.schema.names.index(name) if name in self.schema.names else -1


def _budget_of_values(bounded: BoundedParquet) -> Budget:
    most = VALUES_RATIO * bounded.most_bytes
    return Budget(most, f"its nested values take more than {most:,} bytes, too many for its size")


def _rows(opened: _Opened) -> Iterator[SourceRow | Notice]:
    check_unique(opened.file, opened.schema.names, opened.columns)
    _check_types(opened)
    inline = _inline_leaf(opened)
    others = _other_columns(opened)
    yield from _bytes_left_out(opened, others)
    reads_images = inline is not None and not (
        opened.bounded.has_no_nulls(inline) and _all_have_key_or_url(opened)
    )
    wanted = [leaf for place in others for leaf in leaves(opened.schema, place)]
    wanted += _leaves_of_images(opened, inline) if reads_images else []
    size = BATCH_ROWS_WITH_IMAGES if reads_images else BATCH_ROWS
    for part in opened.bounded.batches(wanted, size):
        if isinstance(part, Unread):
            yield from _unread(opened, part)
            continue
        batch, images, named = part.rows, None, None
        if opened.image is not None and reads_images:
            at = sum(place < opened.image for place in others)
            images = image_values(batch.column(at))
            paths = path_values(batch.column(at)) if opened.layout.has_paths else None
            named = python_values(paths)[0] if paths is not None else None
            batch = batch.remove_column(at)
        for i, row in enumerate(_batch_rows(opened, batch, part.start)):
            if inline is not None and not row.bad:
                image = image_at(images, i) if images is not None else None
                _place_image(opened, row, part.start + i, image, reads_images)
                if row.member is None and opened.layout.is_complete:
                    row.reason = row.reason or "no_image"
                if named is not None and row.member is None:
                    set_text(row, "path", opened.columns["image"][0], named[i])
                    take_address(row)
            yield row
        # They would stay while the next ones are read.
        del part, batch, images, named


def _leaves_of_images(opened: _Opened, inline: int | None) -> list[int]:
    path = path_leaf(opened.schema, opened.image or 0) if opened.layout.has_paths else None
    return [leaf for leaf in (inline, path) if leaf is not None]


def _unread(opened: _Opened, part: Unread) -> Iterator[SourceRow | Notice]:
    where = f"rows {part.start:,} to {part.start + part.rows - 1:,}"
    yield Notice("unread_rows", f"{where} of {opened.file.display_name}", part.rows)
    yield bad_row(f"{opened.file.name} {where}".encode("utf-8", "replace"), where, part.problem)


def _place_image(
    opened: _Opened, row: SourceRow, number: int, content: pa.Buffer | None, was_read: bool
) -> None:
    """Say where the image of a row is, and what distinguishes it where no key or URL does."""
    if was_read and content is None:
        return
    row.member = escape(f"{opened.columns['image'][0]}/{number}")
    if content is not None and row.key is None and row.url is None:
        row.image_key = hashlib.sha256(content).hexdigest()


def _other_columns(opened: _Opened) -> list[int]:
    """Return the places of the columns to read besides images: mapped ones, and metadata."""
    mapped = {column for candidates in opened.columns.values() for column in candidates}
    return [
        place
        for place, field in enumerate(opened.schema)
        # Bytes cannot be written as JSON.
        if place != opened.image and (field.name in mapped or not _are_bytes(field.type))
    ]


def _bytes_left_out(opened: _Opened, others: Sequence[int]) -> Iterator[Notice]:
    mapped = {column for candidates in opened.columns.values() for column in candidates}
    for field in opened.schema:
        if field.name not in mapped:
            for name in _byte_fields(field, field.name):
                yield Notice("column_of_bytes", f"{name} of {opened.file.display_name}")


def _are_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes; those of a UUID are written as text."""
    return not isinstance(kind, pa.UuidType) and is_bytes(plain_type(kind))


def _byte_fields(field: pa.Field, name: str) -> Iterator[str]:
    kind = plain_type(field.type)
    if _are_bytes(field.type):
        yield name
    elif pa.types.is_nested(kind):
        for child in (kind.field(i) for i in range(kind.num_fields)):
            yield from _byte_fields(child, f"{name}.{child.name}")


def _check_types(opened: _Opened) -> None:
    """Check that mapped columns have types that can hold their fields.

    Raises:
        RecipeError: one has not.
    """
    for mapped, candidates in opened.columns.items():
        for column in candidates:
            place = opened.place(column)
            if mapped in ("image", "faces") or place < 0:
                continue
            kind = opened.schema.field(place).type
            if not _can_hold(mapped, kind):
                raise RecipeError(
                    f"Source {opened.file.source.name!r}: column {column!r} of "
                    f"{opened.file.display_name}, mapped to {mapped}, has the type {kind}",
                    fix=f"Map {mapped} to a column of text",
                )


def _can_hold(field: str, kind: pa.DataType) -> bool:
    """Whether values of a type can be a URL, path or hash (text), or a caption or key (numbers too)."""
    types, kind = pa.types, plain_type(kind)
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null, is_bytes)
    if any(of(kind) for of in texts):
        return True
    return field in ("caption", "key") and not types.is_nested(kind)


def _inline_leaf(opened: _Opened) -> int | None:
    """Return the number of the Parquet column with the images; None if no column maps any."""
    if opened.image is None:
        return None
    name = opened.columns["image"][0]
    leaf = image_leaf(opened.schema, opened.image) if opened.image >= 0 else None
    if leaf is None:
        kind = opened.schema.field(opened.image).type if opened.image >= 0 else pa.string()
        raise RecipeError(
            f"Source {opened.file.source.name!r}: column {name!r} of "
            f"{opened.file.display_name}, mapped to image, has the type {kind}",
            fix=(
                "Map image to encoded bytes, or to a struct with a field `bytes`. Map URLs to "
                "url, and file names to path"
            ),
        )
    return leaf


def _all_have_key_or_url(opened: _Opened) -> bool:
    """Whether each row has a key or a URL, so that its pair_id does not depend on its image."""
    names = [column for field in ("key", "url") for column in opened.columns.get(field, ())]
    places = [place for place in map(opened.place, names) if place >= 0]
    if not places:
        return False
    wanted = [leaf for place in places for leaf in leaves(opened.schema, place)]
    for part in opened.bounded.batches(wanted, BATCH_ROWS):
        if isinstance(part, Unread):
            continue
        rows = zip(*(python_values(column)[0] for column in part.rows.columns), strict=True)
        if not all(any(v is not None and v != "" for v in row) for row in rows):
            return False
    return True


def _batch_rows(opened: _Opened, batch: pa.RecordBatch, start: int) -> Iterator[SourceRow]:
    names = batch.schema.names
    columns = [decoded(column) for column in batch.columns]
    plain = pa.RecordBatch.from_arrays(columns, names) if names else batch
    nested = (column for column in plain.columns if pa.types.is_nested(column.type))
    opened.values.take(sum(map(python_bytes, nested)))
    for part in parts_of(plain, BATCH_BYTES):
        yield from _part_rows(opened, part, start)
        start += part.num_rows


def _part_rows(opened: _Opened, batch: pa.RecordBatch, start: int) -> Iterator[SourceRow]:
    names, name = batch.schema.names, opened.file.name
    if batch.num_rows == 1 and sum(map(python_bytes, batch.columns)) > 2 * BATCH_BYTES:
        problem = f"a value of {batch.nbytes:,} bytes, or of very many parts"
        bad = bad_row(f"{name} {start}".encode("utf-8", "replace"), f"row {start}", problem)
        bad.left_out = batch.nbytes
        yield bad
        return
    columns = [python_values(column) for column in batch.columns]
    unique = len(set(names)) == len(names)
    rows: Any = (
        zip(*(values for values, _ in columns), strict=True)
        if names
        else iter([()] * batch.num_rows)
    )
    invalid = {row: column for column, (_, of) in zip(names, columns, strict=True) for row in of}
    for number, values in enumerate(rows):
        make = partial(_row, opened, names, values, unique)
        where = f"row {start + number}"
        made = row_or_reason(make, where, f"{name} {where}")
        if number in invalid:
            made.bad, made.unreadable = True, f"column {invalid[number]!r}: it is not UTF-8"
        made.where = where
        yield made


def _row(opened: _Opened, names: list[str], row: Sequence[Any], unique: bool) -> SourceRow:
    values: dict[str, Any] = dict(zip(names, row, strict=True)) if unique else merged(names, row)
    partitions = opened.file.partitions
    return opened.layout.row(opened.columns, partitions | values if partitions else values)
