"""Recognises what other tools write: img2dataset, `datasets`, COCO and FiftyOne, clip-retrieval."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.media.files.compression import compression_of, decompressed
from curation.media.files.json_items import DamagedJsonError, json_items
from curation.media.files.location import FileSystemError
from curation.media.files.parquet_images import plain_type
from curation.media.files.parquet_reading import BoundedParquet
from curation.stages.ingest.formats.boundary import UnreadableError
from curation.stages.ingest.formats.coco import file_name_of
from curation.stages.ingest.recognise.column_names import guess_columns
from curation.stages.ingest.recognise.pictures_root import fields_of_root
from curation.stages.ingest.recognise.place import MARKER, Place, Recognised
from curation.stages.ingest.recognise.tables import Answer, parquet_head
from curation.stages.ingest.sources.listing import source_files
from curation.stages.ingest.sources.source_file import SourceFile

_STATUS_COLUMNS = {"key", "status", "error_message"}
_JSON_FILES, _JSON_ITEMS = 3, 20
"""JSON files of a folder, and items of each, that are looked at: pictures may have JSON beside them."""
_NO_IMAGES = (
    "no JSON file lists images with `file_name`. Write an array of objects as JSON Lines: "
    "jq -c '.[]' FILE.json > FILE.jsonl"
)


def img2dataset(place: Place) -> Answer:
    """Recognise an output of img2dataset by the columns of its Parquet files."""
    tables = place.named("parquet")
    if not tables or Path(place.path).is_file():
        return None
    if not set(_schema(place.first_file("parquet")).names) >= _STATUS_COLUMNS:
        return None
    return Recognised({"format": "img2dataset"}, MARKER, len(place.files))


def hub_parquet(place: Place) -> Answer:
    """Recognise Parquet of the `datasets` library by its metadata, or by images that are structs."""
    tables = place.named("parquet")
    if not tables:
        return None
    first = place.first_file("parquet")
    schema, head = _schema(first), parquet_head(first)
    is_marked = b"huggingface" in (schema.metadata or {})
    structs = [n for n in head.images if pa.types.is_struct(plain_type(schema.field(n).type))]
    if not structs or not (is_marked or len(structs) == len(head.images)):
        return None
    guessed = guess_columns(head)
    columns = {n: column for n, column in guessed.items() if n in ("caption", "key")}
    fields: dict[str, Any] = {"format": "huggingface"}
    if len(structs) > 1:
        columns["image"] = structs[0]
    return Recognised(fields | ({"columns": columns} if columns else {}), MARKER, len(tables))


def clip_retrieval(place: Place) -> Answer:
    """Recognise an output of clip-retrieval by its folders; its pictures must be behind URLs."""
    folders = {file.name.split("/")[0] for file in place.files if "/" in file.name}
    if "metadata" not in folders or not folders & {"img_emb", "text_emb"}:
        return None
    if "url" not in _schema(place.first_file("clip_retrieval")).names:
        return (
            "it holds vectors and no pictures. Write the recipe by hand, with `import` of its vectors "
            "under embed.encoders"
        )
    fields = {"format": "clip_retrieval", "columns": {"url": "url"}}
    note = (
        "Its vectors are left alone, and the pictures are downloaded. your-vectors.md in `curation "
        "where docs` says how to start from the vectors."
    )
    return Recognised(fields, MARKER, len(place.files), (note,))


def annotated(place: Place) -> Answer:
    """Recognise JSON of COCO or FiftyOne by its first entries, and find the folder of its pictures."""
    if not place.named("coco"):
        return None
    files = source_files(place.source(format="coco"), 10_000, place.outbound)
    named = next(filter(None, map(_first_path, files[:_JSON_FILES])), None)
    if named is None:
        return _NO_IMAGES if len(files) == 1 else None
    root, notes = fields_of_root(place, [named])
    return Recognised({"format": "coco"} | root, MARKER, len(place.files), notes)


def _first_path(file: SourceFile) -> str | None:
    """Return the path of the first picture that a JSON file names; None if it names none."""
    try:
        with file.open() as raw:
            for item in islice(json_items(decompressed(raw, compression_of(raw))), _JSON_ITEMS):
                value = item.value if isinstance(item.value, dict) else {}
                path = {"images": file_name_of(value), "samples": value.get("filepath")}
                if isinstance(path.get(item.array), str):
                    return str(path[item.array])
    except FileSystemError:
        raise
    except (DamagedJsonError, OSError, ValueError):
        return None
    return None


def _schema(file: SourceFile) -> pa.Schema:
    try:
        with file.open() as stream:
            return BoundedParquet(stream).file.schema_arrow
    except FileSystemError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableError(f"{file.display_name}: {error}") from error
