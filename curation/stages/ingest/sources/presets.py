"""The lists that the field publishes, by name: how they are written, and which column is what.

Only data, so that a recipe can be checked without opening a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Preset:
    """One family of lists.

    Attributes:
        reader: the format that reads its files.
        columns: for what a source maps, the columns that may hold it: of those that a file has, the
            first that is not empty.
        header: names of the columns where files have no line that says them.
        quoted: whether text fields may be quoted, as CSV has them.
        doc: what it is.
        version: raised whenever the same files would give other rows.
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
        doc="Conceptual Captions, a caption and a URL a line",
    ),
    "cc12m": Preset(
        "tsv",
        {"url": ("url",), "caption": ("caption",)},
        header=("url", "caption"),
        doc="Conceptual 12M, a URL and a caption a line",
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
