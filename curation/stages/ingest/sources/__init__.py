"""The formats of sources by name, each read by a module of `curation/stages/ingest/formats/`.

A new format is a file there and an entry in `FORMATS`. See docs/extending.md. The registry holds names
only: a recipe is read where pyarrow may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.engine.registry import Entry, Registry

IMAGE_ENDINGS = ("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff")
"""Endings of the names of image files."""


def _compressed(*endings: str) -> tuple[str, ...]:
    """Return the endings of text files, compressed or not."""
    return tuple(f"{end}{more}" for end in endings for more in ("", ".gz", ".bz2", ".zst", ".lz4"))


@dataclass(frozen=True)
class FormatEntry(Entry):
    """What a recipe and the listing of files need to know of a format.

    Attributes:
        function: the function of the module that yields the rows of a file.
        endings: endings of the names of its files, the usual one first.
        maps: what `columns` may map, where the format itself says where images are; None where
            `columns` must say it.
        hosts: its images are behind URLs, where the format itself says where images are.
        holds_images: its files are images, or hold them.
    """

    function: str = "read"
    endings: tuple[str, ...] = ()
    maps: tuple[str, ...] | None = None
    hosts: bool = False
    holds_images: bool = False


FORMATS = Registry(
    "format",
    "curation.stages.ingest.formats",
    {
        "parquet": FormatEntry(endings=(".parquet", ".parq", ".pq")),
        "csv": FormatEntry(
            "curation.stages.ingest.formats.delimited",
            function="read_csv",
            endings=_compressed(".csv"),
        ),
        "tsv": FormatEntry(
            "curation.stages.ingest.formats.delimited",
            function="read_tsv",
            endings=_compressed(".tsv"),
        ),
        "jsonl": FormatEntry(endings=_compressed(".jsonl", ".ndjson")),
        "txt": FormatEntry(endings=_compressed(".txt"), maps=(), hosts=True),
        "wat": FormatEntry(endings=(".wat.gz", ".wat"), maps=(), hosts=True),
        "folder": FormatEntry(
            endings=tuple(f".{end}" for end in IMAGE_ENDINGS),
            maps=("caption", "key"),
            holds_images=True,
        ),
        "webdataset": FormatEntry(
            endings=(".tar", ".tar.gz", ".tgz"), maps=("caption", "key"), holds_images=True
        ),
    },
)
