"""Published lists of image-text pairs by name: their file format and their columns.

This is only data, so that a recipe can be checked without opening a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from curation.engine.registry import Entry, Registry, display_text


@dataclass(frozen=True, kw_only=True)
class Preset(Entry):
    """One family of published lists. Its version counts beside that of the format that reads it.

    Attributes:
        reader: the format that reads its files.
        columns: for each field that a source maps, the columns that may hold it; the first that is not
            empty counts.
        header: names of the columns, if the files have no header line.
        quoted: whether text fields may be quoted, as in CSV.
        doc: description of the lists.
    """

    reader: str
    columns: Mapping[str, tuple[str, ...]]
    header: tuple[str, ...] = ()
    quoted: bool = False
    doc: str = display_text()


PRESETS = Registry(
    "published list",
    "curation.stages.ingest.formats",
    {
        "laion": Preset(
            version=2,
            reader="parquet",
            columns={
                "url": ("URL", "url"),
                "caption": ("TEXT", "text", "caption", "top_caption"),
                "key": ("SAMPLE_ID", "key", "uid"),
            },
            doc="LAION-400M, LAION-5B and Re-LAION metadata",
        ),
        "datacomp": Preset(
            reader="parquet",
            columns={
                "url": ("url",),
                "caption": ("text",),
                "key": ("uid",),
                "sha256": ("sha256",),
                "faces": ("face_bboxes",),
            },
            doc="DataComp and CommonPool metadata",
        ),
        "coyo": Preset(
            reader="parquet",
            columns={"url": ("url",), "caption": ("text",), "key": ("id",)},
            doc="COYO-700M",
        ),
        "cc3m": Preset(
            reader="tsv",
            columns={"url": ("url",), "caption": ("caption",)},
            header=("caption", "url"),
            doc="Conceptual Captions, one caption and URL per line",
        ),
        "cc12m": Preset(
            reader="tsv",
            columns={"url": ("url",), "caption": ("caption",)},
            header=("url", "caption"),
            doc="Conceptual 12M, one URL and caption per line",
        ),
        "wit": Preset(
            version=2,
            reader="tsv",
            columns={
                "url": ("image_url",),
                "caption": (
                    "caption_reference_description",
                    "caption_attribution_description",
                    "caption_alt_text_description",
                ),
            },
            quoted=True,
            doc="Wikipedia-based Image Text",
        ),
        "url_alt": Preset(
            version=2,
            reader="parquet",
            columns={
                "url": ("url", "image_url", "img_url", "src"),
                "caption": ("alt", "alt_text", "text"),
                "key": ("uid", "id"),
            },
            doc="tables of image URLs and alternative texts taken from Common Crawl",
        ),
    },
)
