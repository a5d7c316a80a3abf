"""JSON in the form of COCO (`images`, `annotations`, `categories`) or FiftyOne (`samples`).

Rows name image files. The first caption of an image that is not empty is its caption; its other
captions, its annotations with the names of their categories, and all other fields are metadata.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from curation.media.files.compression import DAMAGE, compression_of, decompressed
from curation.media.files.json_items import (
    DamagedJsonError,
    JsonArrayError,
    JsonItem,
    json_items,
)
from curation.media.files.limits import METADATA_CHARACTERS
from curation.media.files.location import FileSystemError
from curation.stages.ingest.formats.annotations import Annotations
from curation.stages.ingest.formats.boundary import Item, UnreadableError, row_or_reason, unreadable
from curation.stages.ingest.formats.mapped import set_metadata, set_text, take_address
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.source_file import SourceFile

_IMAGES, _SAMPLES, _ANNOTATIONS, _CATEGORIES = "images", "samples", "annotations", "categories"
_ARRAY_FIX = "Write one object a line, as by jq -c '.[]', and set `format: jsonl`"


def read(file: SourceFile) -> Iterator[Item]:
    """Yield one row for each image, in the order of the file. It is read twice: annotations come first.

    Raises:
        UnreadableError: it is damaged, or holds no JSON object.
    """
    with Annotations() as annotations:
        # The images before the damage are read; then the same damage ends them.
        with suppress(UnreadableError):
            yield from _collect(file, annotations)
        annotations.sort()
        is_list = False
        for item in _items(file):
            if item.array in (_IMAGES, _SAMPLES):
                is_list = True
                yield _row(file, item, annotations)
        if not is_list:
            yield Notice("other_file", file.display_name)
        elif stray := annotations.stray():
            yield Notice("stray_annotation", f"annotations of {file.display_name}", stray)


def _items(file: SourceFile) -> Iterator[JsonItem]:
    with file.open() as raw:
        try:
            yield from json_items(decompressed(raw, compression_of(raw)))
        except FileSystemError:
            raise
        except JsonArrayError as error:
            raise unreadable(
                file, f"is no list of COCO or FiftyOne ({error})", _ARRAY_FIX
            ) from error
        except (DamagedJsonError, *DAMAGE) as error:
            raise unreadable(file, f"cannot be read further ({error})") from error


def _collect(file: SourceFile, annotations: Annotations) -> Iterator[Item]:
    """Read annotations and categories; those that cannot be read are bad rows."""
    for item in _items(file):
        if item.array == _IMAGES:
            annotations.add_image(item.value)
        add = {_ANNOTATIONS: annotations.add, _CATEGORIES: annotations.add_category}.get(item.array)
        if add is None:
            continue
        problem = item.problem or add(item.value)
        if problem:
            yield _bad(file, item, problem)


def _bad(file: SourceFile, item: JsonItem, problem: str) -> SourceRow:
    where = f"{item.array} {item.number}"
    return bad_row(f"{file.name} {where}".encode("utf-8", "replace"), where, problem)


def _row(file: SourceFile, item: JsonItem, annotations: Annotations) -> SourceRow:
    if item.problem or not isinstance(item.value, dict):
        return _bad(file, item, item.problem or "it is no object")
    make = _image if item.array == _IMAGES else _sample
    where = f"{item.array} {item.number}"
    row = row_or_reason(
        partial(make, file.source.columns, item.value, annotations), where, f"{file.name} {where}"
    )
    row.where = where
    return row


def _image(
    columns: Mapping[Any, str], image: dict[str, Any], annotations: Annotations
) -> SourceRow:
    """Return the row of an image in the form of COCO."""
    row = SourceRow()
    of_image, problem = annotations.of(image.get("id"), METADATA_CHARACTERS)
    captions = [c for a in of_image if _is_given(c := a.pop("caption", None))]
    image["file_name"] = file_name_of(image)
    name = columns.get("caption", "caption")
    if not _is_given(image.get(name)) and "caption" not in columns and captions:
        image[name] = captions.pop(0)
    _set(row, image, path="file_name", caption=name, key=columns.get("key", "id"))
    more = {"captions": captions, "annotations": [a for a in of_image if a]}
    row.unreadable = row.unreadable or problem
    set_metadata(row, image | {name: value for name, value in more.items() if value})
    return row


def _is_given(caption: Any) -> bool:
    """Whether a caption is not empty; pandas writes NaN for one that is missing."""
    is_nan = isinstance(caption, float) and math.isnan(caption)
    return caption not in (None, "") and not is_nan


def file_name_of(image: Mapping[str, Any]) -> Any:
    """Return the path of an image. LVIS names its images by their addresses alone."""
    name, address = image.get("file_name"), image.get("coco_url")
    if name is None and isinstance(address, str):
        return "/".join(address.split("/")[-2:])
    return name


def _sample(
    columns: Mapping[Any, str], sample: dict[str, Any], annotations: Annotations
) -> SourceRow:
    """Return the row of a sample of FiftyOne."""
    row = SourceRow()
    identity = sample.get("_id")
    if isinstance(identity, dict) and "$oid" in identity:
        sample.setdefault("id", identity["$oid"])
    name = columns.get("caption", "caption")
    caption = sample.get(name)
    of_label: dict[str, Any] = {}
    if isinstance(caption, dict) and "label" in caption:
        sample[name] = caption.pop("label")
        # Such as its confidence.
        of_label = _public(caption)
    _set(row, sample, path="filepath", caption=name, key=columns.get("key", "id"))
    set_metadata(row, _public(sample) | ({name: of_label} if of_label else {}))
    return row


def _set(row: SourceRow, values: dict[str, Any], **names: str) -> None:
    """Set fields of a row to values, which are then no metadata; without a path the row is bad."""
    for field, name in names.items():
        set_text(row, field, name, values.get(name))
    for name in names.values():
        values.pop(name, None)
    take_address(row)
    if row.path is None and row.url is None and not row.bad:
        row.bad, row.unreadable = True, f"it has no {names['path']}"


def _public(value: Any) -> Any:
    """Return a value without the fields that FiftyOne keeps for itself."""
    if isinstance(value, list):
        return [_public(item) for item in value]
    if isinstance(value, dict):
        return {name: _public(v) for name, v in value.items() if not name.startswith("_")}
    return value
