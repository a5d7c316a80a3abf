"""Parquet as the `datasets` library and the Hugging Face hub write it: encoded images in a column.

The metadata of the schema (`huggingface`) say which columns are images and which are labels. Without
them, a struct with the fields `bytes` and `path` is an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from curation.errors import RecipeError
from curation.media.files.parquet_images import image_leaf, is_text, plain_type
from curation.stages.ingest.formats.boundary import Item, unreadable
from curation.stages.ingest.formats.mapped import (
    Columns,
    listed_names,
    mapped_columns,
    row_from_columns,
)
from curation.stages.ingest.formats.parquet import Layout, read_table
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.formats.values import parse_json
from curation.stages.ingest.sources.source_file import SourceFile

_LISTS = ("Sequence", "List", "LargeList")
_SCHEMA_KEY = b"huggingface"
Features = Mapping[str, Any]
"""What the metadata of a schema say about each column."""


def read(file: SourceFile) -> Iterator[Item]:
    """Yield the rows of a file.

    A number of a column of labels becomes the name of its label. An image that is not in the file is
    looked for at its path, within the folder of the source.

    Raises:
        RecipeError: no column holds images, or several do and the recipe names none; or a mapped
            column is missing or has another type.
        UnreadableError: the file is damaged.
    """
    return read_table(file, _layout)


def _layout(file: SourceFile, schema: pa.Schema) -> Layout:
    features = _features(file, schema)
    columns = dict(mapped_columns(file, schema.names))
    if "caption" not in file.source.columns:
        columns["caption"] = tuple(
            name for name in columns.get("caption", ()) if _is_text_column(schema, name)
        )
    columns["image"] = (file.source.columns.get("image") or _image(file, schema, features),)
    labels = {name: feature for name, feature in features.items() if _has_labels(feature)}
    named = {field: names for field, names in columns.items() if names}
    return Layout(named, partial(_row, labels), has_paths=True)


def _features(file: SourceFile, schema: pa.Schema) -> Features:
    """Return what the metadata of a schema say about its columns; nothing if there are none.

    Raises:
        UnreadableError: they are no JSON, or not of this form.
    """
    content = (schema.metadata or {}).get(_SCHEMA_KEY)
    if content is None:
        return {}
    try:
        features = parse_json(content.decode(), unique=False)["info"]["features"]
        return {str(name): feature for name, feature in features.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable(
            file,
            f"has metadata `huggingface` that cannot be read ({type(error).__name__}: {error})",
            "Write the file again with the datasets library, or read it with `format: parquet`",
        ) from error


def _is_text_column(schema: pa.Schema, name: str) -> bool:
    # A name that the names of folders hold, as `text=en`, is in no schema.
    return name not in schema.names or is_text(plain_type(schema.field(name).type))


def _image(file: SourceFile, schema: pa.Schema, features: Features) -> str:
    """Return the only column of images.

    Raises:
        RecipeError: there is none, or there are several.
    """
    if features:
        images = [name for name in schema.names if _kind(features.get(name)) == "Image"]
    else:
        images = [field.name for field in schema if _is_image_struct(field.type)]
    if len(images) == 1:
        return str(images[0])
    place = f"{file.label} has"
    lists = [field.name for field in schema if _is_list_of_images(field.type)]
    if not images and lists:
        raise RecipeError(
            f"{place} several images in a row (lists in {listed_names(lists)}), and no column with one",
            fix=(
                "Write a column with one of them, as dataset.map(lambda row: {'image': "
                f"row[{lists[0]!r}][0]}})"
            ),
        )
    if not images:
        raise RecipeError(
            f"{place} no column of images. It has: {listed_names(schema.names)}",
            fix=(
                "Map `image` in `columns` to a column of encoded images; for URLs or paths set "
                "`format: parquet`"
            ),
        )
    raise RecipeError(
        f"{place} several columns of images: {listed_names(images)}",
        fix="Map `image` in `columns` to one of them",
    )


def _is_image_struct(kind: pa.DataType) -> bool:
    kind = plain_type(kind)
    if not pa.types.is_struct(kind) or {f.name for f in kind} != {"bytes", "path"}:
        return False
    return image_leaf(pa.schema([("image", kind)]), 0) is not None


def _is_list_of_images(kind: pa.DataType) -> bool:
    kind = plain_type(kind)
    types = pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and _is_image_struct(kind.value_type)


def _kind(feature: Any) -> Any:
    return feature.get("_type") if isinstance(feature, Mapping) else None


def _has_labels(feature: Any) -> bool:
    if isinstance(feature, list):
        return any(map(_has_labels, feature))
    if not isinstance(feature, Mapping):
        return False
    return _kind(feature) == "ClassLabel" or any(map(_has_labels, feature.values()))


def _row(labels: Features, columns: Columns, values: Mapping[str, Any]) -> SourceRow:
    problems: list[str] = []
    named = {
        name: _named(values[name], feature, problems)
        for name, feature in labels.items()
        if name in values
    }
    row = row_from_columns(columns, {**values, **named})
    if problems and not row.unreadable:
        row.unreadable = problems[0]
    return row


def _named(value: Any, feature: Any, problems: list[str]) -> Any:
    """Return a value with the names of its labels; a number without a name stays, and is a problem."""
    if _kind(feature) in _LISTS:
        # A list of structs may be stored as a struct of lists.
        feature = feature.get("feature")
    elif isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if isinstance(value, list):
        return [_named(item, feature, problems) for item in value]
    if not isinstance(feature, Mapping):
        return value
    if isinstance(value, Mapping):
        return {name: _named(item, feature.get(name), problems) for name, item in value.items()}
    if _kind(feature) != "ClassLabel" or not isinstance(value, int | float) or math.isnan(value):
        return value
    if isinstance(value, float) and value.is_integer():
        # pandas writes the whole numbers of a column with gaps so.
        value = int(value)
    return _label(value, feature.get("names"), problems)


def _label(number: float, names: Any, problems: list[str]) -> Any:
    if isinstance(names, list) and isinstance(number, int) and 0 <= number < len(names):
        return str(names[number])
    if number == -1:
        # How the library writes that there is no label.
        return None
    problems.append(f"label {number} has no name")
    return number
