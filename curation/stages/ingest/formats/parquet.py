"""Parquet: lists of URLs or paths, or encoded images inside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import RecipeError, StoreError
from curation.media.files.parquet_images import image_values, inline_column, is_bytes
from curation.stages.ingest.formats.mapped import Columns, asked_from, columns_of
from curation.stages.ingest.formats.source_row import Asked, bad_row
from curation.stages.ingest.formats.values import BadTextError
from curation.stages.ingest.sources.source_file import SourceFile

ROWS = 4096
ROWS_WITH_BYTES = 64
_READ_AHEAD = 1 << 20


def read(given: SourceFile) -> Iterator[Asked]:
    """Yield the rows of a file; inline images are read only where nothing else names the row.

    Raises:
        RecipeError: a mapped column is missing, is there twice, or cannot hold what it is mapped to.
        StoreError: the file is damaged.
    """
    try:
        with given.open() as stream:
            file = pq.ParquetFile(stream, buffer_size=_READ_AHEAD)
            yield from _rows(given, file)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"Source {given.source.name!r}: {given.shown} cannot be read as Parquet ({error}). "
            "Replace the file, or take it out of the source, and run again."
        ) from error


def _rows(given: SourceFile, file: pq.ParquetFile) -> Iterator[Asked]:
    schema = file.schema_arrow
    columns = columns_of(given, schema.names)
    image = columns["image"][0] if "image" in columns else None
    inline = _inline(given, schema, image) if image else None
    _refuse_other_types(given, schema, columns)
    mapped = {column for candidates in columns.values() for column in candidates}
    # Bytes beside the image cannot stand in JSON.
    wanted = [n for n in schema.names if n in mapped or not is_bytes(schema.field(n).type)]
    if inline:
        wanted = [n for n in wanted if n != image]
        if not (_has_no_nulls(file, inline) and _all_named(file, columns)):
            wanted.append(inline)
    reads_bytes = inline in wanted if inline else False
    size = ROWS_WITH_BYTES if reads_bytes else ROWS
    number = 0
    for batch in file.iter_batches(batch_size=size, columns=wanted):
        images = image_values(batch, image).to_pylist() if image and reads_bytes else None
        rest = batch.drop_columns([image]) if images is not None else batch
        for i, values in enumerate(_values(rest)):
            row = _asked(columns, values)
            content = images[i] if images is not None else None
            if inline and not row.bad and (images is None or content is not None):
                row.member = f"{image}/{number}"
                if row.key is None and row.url is None and content is not None:
                    row.picture = hashlib.sha256(content).hexdigest()
            yield row
            number += 1


def _refuse_other_types(given: SourceFile, schema: pa.Schema, columns: Columns) -> None:
    """Raise RecipeError where a whole column cannot be what it is mapped to."""
    for mapped, candidates in columns.items():
        for column in candidates:
            if len(schema.get_all_field_indices(column)) > 1:
                raise RecipeError(
                    f"Source {given.source.name!r}: {given.shown} has more than one column "
                    f"{column!r}, mapped to {mapped}. Give each a name of its own."
                )
            kind = schema.field(column).type
            if mapped not in ("image", "faces") and not _may_be(mapped, kind):
                raise RecipeError(
                    f"Source {given.source.name!r}: column {column!r} of {given.shown}, mapped to "
                    f"{mapped}, is {kind}. Map {mapped} to a column of text."
                )


def _may_be(mapped: str, kind: pa.DataType) -> bool:
    """Whether values of a type can be a URL, path, hash (text), caption or key (a number too)."""
    types = pa.types
    if types.is_dictionary(kind):
        return _may_be(mapped, kind.value_type)
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null, is_bytes)
    if any(of(kind) for of in texts):
        return True
    return mapped in ("caption", "key") and not types.is_nested(kind)


def _inline(given: SourceFile, schema: pa.Schema, image: str) -> str:
    inline = inline_column(schema, image)
    if inline is None:
        raise RecipeError(
            f"Source {given.source.name!r}: column {image!r} of {given.shown}, mapped to image, is "
            f"{schema.field(image).type}. Map image to encoded bytes, or to a struct with a field "
            "`bytes`; map URLs to url and file names to path."
        )
    return inline


def _all_named(file: pq.ParquetFile, columns: Columns) -> bool:
    """Whether every row has a key or a URL, so that its bytes are not needed to tell it apart."""
    names = [column for m in ("key", "url") for column in columns.get(m, ())]
    if not names:
        return False
    for batch in file.iter_batches(batch_size=ROWS, columns=names):
        rows = zip(*(_python(column) for column in batch.columns), strict=True)
        if not all(any(v is not None and v != "" for v in row) for row in rows):
            return False
    return True


def _has_no_nulls(file: pq.ParquetFile, path: str) -> bool:
    """Whether statistics promise that every row has its image."""
    meta = file.metadata
    at = next((i for i in range(meta.num_columns) if file.schema.column(i).path == path), None)
    if at is None:
        return False
    for group in range(meta.num_row_groups):
        statistics = meta.row_group(group).column(at).statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
    return True


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows; text that is not UTF-8 stays bytes, for the row to be found bad."""
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
            return [_decoded(v) for v in column.cast(pa.large_binary()).to_pylist()]
        return [_or_none(value) for value in column]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return value.decode() if value is not None else None
    except UnicodeDecodeError:
        return value


def _or_none(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return None


def _asked(columns: Columns, values: dict[str, Any]) -> Asked:
    try:
        return asked_from(columns, values)
    except BadTextError:
        return bad_row(repr(sorted(values.items(), key=lambda item: item[0])).encode("utf-8"))
