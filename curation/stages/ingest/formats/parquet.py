"""Parquet: lists of URLs or paths, or encoded images in a column."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import RecipeError, StoreError
from curation.media.files.parquet_images import image_values, inline_column, is_bytes
from curation.stages.ingest.formats.mapped import Columns, resolve_columns, row_from_columns
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import BadTextError
from curation.stages.ingest.sources.source_file import SourceFile

BATCH_ROWS = 4096
BATCH_ROWS_WITH_IMAGES = 64
_READ_AHEAD_BYTES = 1 << 20


def read(file: SourceFile) -> Iterator[SourceRow]:
    """Yield the rows of a file; inline images are read only if rows have neither a key nor a URL.

    Raises:
        RecipeError: a mapped column is missing, is not unique, or has a type that cannot hold the
            field that it is mapped to.
        StoreError: the file is damaged.
    """
    try:
        with file.open() as stream:
            parquet = pq.ParquetFile(stream, buffer_size=_READ_AHEAD_BYTES)
            yield from _rows(file, parquet)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"Source {file.source.name!r}: {file.display_name} cannot be read as Parquet ({error}). "
            "Replace the file, or remove it from the source, and run again."
        ) from error


def _rows(file: SourceFile, parquet: pq.ParquetFile) -> Iterator[SourceRow]:
    schema = parquet.schema_arrow
    columns = resolve_columns(file, schema.names)
    image = columns["image"][0] if "image" in columns else None
    inline = _inline_path(file, schema, image) if image else None
    _check_types(file, schema, columns)
    read = _columns_to_read(parquet, columns, image, inline)
    reads_images = inline in read if inline else False
    size = BATCH_ROWS_WITH_IMAGES if reads_images else BATCH_ROWS
    number = 0
    for batch in parquet.iter_batches(batch_size=size, columns=read):
        images = image_values(batch, image).to_pylist() if image and reads_images else None
        rest = batch.drop_columns([image]) if images is not None else batch
        for i, values in enumerate(_values(rest)):
            row = _row(columns, values)
            content = images[i] if images is not None else None
            if inline and not row.bad and (images is None or content is not None):
                row.member = f"{image}/{number}"
                if row.key is None and row.url is None and content is not None:
                    row.image_key = hashlib.sha256(content).hexdigest()
            yield row
            number += 1


def _columns_to_read(
    parquet: pq.ParquetFile, columns: Columns, image: str | None, inline: str | None
) -> list[str]:
    """Return the columns to read: mapped ones, and all that can become metadata."""
    schema = parquet.schema_arrow
    mapped = {column for candidates in columns.values() for column in candidates}
    # Bytes cannot be written as JSON.
    read = [n for n in schema.names if n in mapped or not is_bytes(schema.field(n).type)]
    if inline:
        read = [name for name in read if name != image]
        if not (_has_no_nulls(parquet, inline) and _all_have_key_or_url(parquet, columns)):
            read.append(inline)
    return read


def _check_types(file: SourceFile, schema: pa.Schema, columns: Columns) -> None:
    """Check that mapped columns are unique, and of types that can hold their fields.

    Raises:
        RecipeError: one is not.
    """
    for mapped, candidates in columns.items():
        for column in candidates:
            if len(schema.get_all_field_indices(column)) > 1:
                raise RecipeError(
                    f"Source {file.source.name!r}: {file.display_name} has more than one column "
                    f"{column!r}, mapped to {mapped}. Give each column a different name."
                )
            kind = schema.field(column).type
            if mapped not in ("image", "faces") and not _can_hold(mapped, kind):
                raise RecipeError(
                    f"Source {file.source.name!r}: column {column!r} of {file.display_name}, mapped to "
                    f"{mapped}, has the type {kind}. Map {mapped} to a column of text."
                )


def _can_hold(field: str, kind: pa.DataType) -> bool:
    """Whether values of a type can be a URL, path or hash (text), or a caption or key (numbers too)."""
    types = pa.types
    if types.is_dictionary(kind):
        return _can_hold(field, kind.value_type)
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null, is_bytes)
    if any(of(kind) for of in texts):
        return True
    return field in ("caption", "key") and not types.is_nested(kind)


def _inline_path(file: SourceFile, schema: pa.Schema, image: str) -> str:
    inline = inline_column(schema, image)
    if inline is None:
        raise RecipeError(
            f"Source {file.source.name!r}: column {image!r} of {file.display_name}, mapped to image, "
            f"has the type {schema.field(image).type}. Map image to encoded bytes, or to a struct "
            "with a field `bytes`. Map URLs to url, and file names to path."
        )
    return inline


def _all_have_key_or_url(parquet: pq.ParquetFile, columns: Columns) -> bool:
    """Whether each row has a key or a URL, so that its pair_id does not depend on its image."""
    names = [column for field in ("key", "url") for column in columns.get(field, ())]
    if not names:
        return False
    for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=names):
        rows = zip(*(_python(column) for column in batch.columns), strict=True)
        if not all(any(v is not None and v != "" for v in row) for row in rows):
            return False
    return True


def _has_no_nulls(parquet: pq.ParquetFile, path: str) -> bool:
    """Whether the statistics of the file show that each row has an image."""
    meta = parquet.metadata
    paths = (parquet.schema.column(i).path for i in range(meta.num_columns))
    at = next((i for i, column in enumerate(paths) if column == path), None)
    if at is None:
        return False
    for group in range(meta.num_row_groups):
        statistics = meta.row_group(group).column(at).statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
    return True


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield rows as values by column; text that is not UTF-8 stays bytes, which makes a bad row."""
    names = batch.schema.names
    columns = [_python(batch.column(i)) for i in range(batch.num_columns)]
    if not names:
        yield from ({} for _ in range(batch.num_rows))
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _python(column: pa.Array) -> list[Any]:
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return [_decode(v) for v in column.cast(pa.large_binary()).to_pylist()]
        return [_value_or_none(value) for value in column]


def _decode(value: bytes | None) -> str | bytes | None:
    try:
        return value.decode() if value is not None else None
    except UnicodeDecodeError:
        return value


def _value_or_none(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return None


def _row(columns: Columns, values: dict[str, Any]) -> SourceRow:
    try:
        return row_from_columns(columns, values)
    except BadTextError:
        return bad_row(repr(sorted(values.items(), key=lambda item: item[0])).encode("utf-8"))
