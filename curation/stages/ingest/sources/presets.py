"""Published lists of image-text pairs by name: their file format and their columns.

This is only data, so that a recipe can be checked without opening a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Preset:
    """One family of published lists.

    Attributes:
        reader: the format that reads its files.
        columns: for each field that a source maps, the columns that may hold it; the first that is not
            empty counts.
        header: names of the columns, if the files have no header line.
        quoted: whether text fields may be quoted, as in CSV.
        doc: description of the lists.
        version: must be raised when the same files would give other rows.
    """

    reader: str
    columns: Mapping[str, tuple[str, ...]]
    header: tuple[str, ...] = ()
    quoted: bool = False
    doc: str = field(default="", compare=False)
    version: int = 1


PRESETS: dict[str, Preset] = {
    "laion": Preset(
        "parquet",
        {
            "url": ("URL", "url"),
            "caption": ("TEXT", "text", "caption", "top_caption"),
            "key": ("SAMPLE_ID", "key", "uid"),
        },
        doc="LAION-400M, LAION-5B and Re-LAION metadata",
    ),
    "datacomp": Preset(
        "parquet",
        {
            "url": ("url",),
            "caption": ("text",),
            "key": ("uid",),
            "sha256": ("sha256",),
            "faces": ("face_bboxes",),
        },
        doc="DataComp and CommonPool metadata",
    ),
    "coyo": Preset(
        "parquet",
        {"url": ("url",), "caption": ("text",), "key": ("id",)},
        doc="COYO-700M",
    ),
    "cc3m": Preset(
        "tsv",
        {"url": ("url",), "caption": ("caption",)},
        header=("caption", "url"),
        doc="Conceptual Captions, one caption and URL per line",
    ),
    "cc12m": Preset(
        "tsv",
        {"url": ("url",), "caption": ("caption",)},
        header=("url", "caption"),
        doc="Conceptual 12M, one URL and caption per line",
    ),
    "wit": Preset(
        "tsv",
        {
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
        "parquet",
        {
            "url": ("url", "image_url", "img_url", "src"),
            "caption": ("alt", "alt_text", "text"),
            "key": ("uid", "id"),
        },
        doc="tables of image URLs and alternative texts taken from Common Crawl",
    ),
}
