"""The formats of sources by name, each read by a module of `curation/stages/ingest/formats/`.

To add a format, add a file there and an entry to `FORMATS` (see docs/extending.md). The registry holds
names only: recipes are also read where pyarrow is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from curation.engine.registry import Entry, Registry
from curation.engine.stage import FunctionPath

IMAGE_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "mpo", "png", "apng", "webp", "gif"),
    *("bmp", "dib", "tif", "tiff", "avif", "avifs", "heic", "heif", "hif"),
    *("jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jxl", "ppm", "pgm", "pbm", "pnm", "ico"),
)
"""File name extensions of images. Files with other names are images if they begin as one."""


def _compressed(*endings: str) -> tuple[str, ...]:
    """Return the endings of text files, uncompressed and compressed."""
    compressions = ("", ".gz", ".bz2", ".zst", ".lz4", ".xz", ".gzip", ".bz", ".zstd")
    return tuple(f"{ending}{compression}" for ending in endings for compression in compressions)


@dataclass(frozen=True)
class FormatEntry(Entry):
    """What a recipe and the listing of files need to know about a format.

    Attributes:
        function: the function of the module that yields the rows of a file.
        endings: endings of the names of its files, the usual one first.
        optional_columns: the keys that `columns` may have, if the format itself defines where images
            are; None if `columns` must define it.
        remote_images: the format itself defines that images are behind URLs.
        holds_images: its files are images, or contain images.
        names_files: its rows may name image files, whatever `columns` maps.
        columns: for each field of a row, the columns that may hold it where `columns` maps none; the
            first that is not empty counts.
        is_table: its files have columns, so one that `columns` maps is looked for in each file.
        is_folder: files of its folder belong together, so a source cannot be one of them.
        recognise: function of a `Place` that returns what a source there would be (`Recognised`), why
            there is none, or None, for `curation init`; None for a format that nobody can recognise.
    """

    function: str = "read"
    endings: tuple[str, ...] = ()
    optional_columns: tuple[str, ...] | None = None
    remote_images: bool = False
    holds_images: bool = False
    names_files: bool = False
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_table: bool = False
    is_folder: bool = False
    recognise: FunctionPath | None = field(default=None, metadata={"display": True})


_PARQUET = (".parquet", ".parq", ".pq")


def _by(function: str) -> FunctionPath:
    """Return a function of the folder `recognise`, as `module:function`."""
    return FunctionPath(f"curation.stages.ingest.recognise.{function}")


FORMATS = Registry(
    "format",
    "curation.stages.ingest.formats",
    {
        "parquet": FormatEntry(version=8, endings=_PARQUET, recognise=_by("tables:parquet")),
        "csv": FormatEntry(
            "curation.stages.ingest.formats.delimited",
            version=9,
            function="read_csv",
            endings=_compressed(".csv"),
            recognise=_by("tables:comma_separated"),
        ),
        "tsv": FormatEntry(
            "curation.stages.ingest.formats.delimited",
            version=9,
            function="read_tsv",
            endings=_compressed(".tsv", ".tab"),
            recognise=_by("tables:tab_separated"),
        ),
        "jsonl": FormatEntry(
            version=9,
            endings=_compressed(".jsonl", ".ndjson", ".jsonlines", ".jl"),
            recognise=_by("tables:json_lines"),
        ),
        "txt": FormatEntry(
            version=8,
            endings=_compressed(".txt"),
            optional_columns=(),
            remote_images=True,
            recognise=_by("files:text"),
        ),
        "wat": FormatEntry(
            version=7,
            endings=(".wat.gz", ".wat"),
            optional_columns=(),
            remote_images=True,
            recognise=_by("files:crawl"),
        ),
        "folder": FormatEntry(
            version=6,
            endings=tuple(f".{end}" for end in IMAGE_ENDINGS),
            optional_columns=("caption", "key"),
            holds_images=True,
            is_folder=True,
            recognise=_by("files:folder"),
        ),
        "webdataset": FormatEntry(
            version=8,
            endings=(*_compressed(".tar"), ".tgz", ".tbz", ".tbz2", ".txz", ".tzst"),
            optional_columns=("caption", "key"),
            holds_images=True,
            recognise=_by("files:webdataset"),
        ),
        "img2dataset": FormatEntry(
            version=8,
            endings=(".parquet", ".tar"),
            optional_columns=("caption", "key", "url", "sha256"),
            holds_images=True,
            names_files=True,
            columns={"url": ("url",), "caption": ("caption",), "key": ("key",)},
            is_table=True,
            is_folder=True,
            recognise=_by("outputs:img2dataset"),
        ),
        "huggingface": FormatEntry(
            version=8,
            endings=(".parquet",),
            optional_columns=("image", "caption", "key", "url", "sha256", "faces"),
            holds_images=True,
            names_files=True,
            columns={"caption": ("caption", "text")},
            is_table=True,
            recognise=_by("outputs:hub_parquet"),
        ),
        "coco": FormatEntry(
            version=7,
            endings=_compressed(".json"),
            optional_columns=("caption", "key"),
            names_files=True,
            recognise=_by("outputs:annotated"),
        ),
        "clip_retrieval": FormatEntry(
            version=6,
            endings=(".parquet",),
            optional_columns=("url", "path", "caption", "key", "sha256"),
            columns={"caption": ("caption",), "key": ("image_path",)},
            is_table=True,
            recognise=_by("outputs:clip_retrieval"),
        ),
    },
)
