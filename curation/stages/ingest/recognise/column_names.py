"""Guesses what the columns of a list hold, by the values of its first rows and by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.media.web.params import is_web
from curation.stages.ingest.sources import IMAGE_ENDINGS

NAMES: Mapping[str, Sequence[str]] = {
    "url": (
        *("url", "image_url", "imageurl", "img_url", "image_link", "image_src", "thumbnail_url"),
        *("contenturl", "link", "src", "uri", "href"),
    ),
    "path": (
        *("path", "file_path", "filepath", "image_path", "img_path", "file_name", "filename"),
        *("file", "image_file", "image", "img", "name"),
    ),
    "caption": (
        *("caption", "text", "alt", "alt_text", "alttext", "title", "description", "prompt"),
        *("top_caption", "txt", "sentence"),
    ),
    "key": ("key", "uid", "id", "sample_id", "image_id", "__key__", "hash", "name"),
    "sha256": ("sha256",),
}
"""For each mapped field the usual names of its column, in lower case, the most usual first."""
MOST = 0.8
"""Share of the values that must look like what a column is taken for."""
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_WORDS_OF_A_CAPTION = 3


@dataclass(frozen=True)
class Head:
    """The first rows of a table.

    Attributes:
        values: the values of each column that holds text or numbers, in the order of the columns.
        images: the columns that hold encoded images.
    """

    values: Mapping[str, Sequence[Any]]
    images: Sequence[str] = field(default=())


def guess_columns(head: Head) -> dict[str, str]:
    """Return a column for each field that a table seems to have.

    A name decides only among columns whose values fit: an `image` of URLs is a URL.
    """
    texts = {name: [str(v) for v in of if v not in (None, "")] for name, of in head.values.items()}
    # Blanks around a URL are no part of it, as `ingest` reads it.
    addresses = [n for n, of in texts.items() if _most((is_web(v.strip()) for v in of), of)]
    hashes = [name for name, of in texts.items() if _most(map(_SHA256.fullmatch, of), of)]
    files = [
        n for n, of in texts.items() if n not in addresses and _most(map(is_picture_file, of), of)
    ]
    mapping: dict[str, str] = {}
    _choose(mapping, "url", _pictures_first(addresses, texts))
    if head.images:
        mapping["image"] = head.images[0]
    elif files:
        _choose(mapping, "path", files)
    _choose(mapping, "sha256", hashes, by_name_only=True)
    left = [n for n in texts if n not in (*addresses, *files, *hashes)]
    _choose(mapping, "caption", left, by_name_only=True)
    if "caption" not in mapping:
        _choose(mapping, "caption", [n for n in left if _reads_as_caption(texts[n])])
    keys = [n for n in texts if n not in mapping.values() and _are_unique(head.values[n])]
    _choose(mapping, "key", keys, by_name_only=True)
    return mapping


def _choose(
    mapping: dict[str, str], mapped: str, columns: Sequence[str], by_name_only: bool = False
) -> None:
    """Take the column with the most usual name; without one the first, unless names must fit."""
    usual = {name: place for place, name in enumerate(NAMES[mapped])}
    fitting = [name for name in columns if name.lower() in usual]
    if fitting:
        mapping[mapped] = min(fitting, key=lambda name: usual[name.lower()])
    elif columns and not by_name_only:
        mapping[mapped] = columns[0]


def _most(is_so: Iterable[Any], values: Sequence[Any]) -> bool:
    return bool(values) and sum(map(bool, is_so)) >= MOST * len(values)


def is_picture_file(value: str) -> bool:
    """Whether a text ends as the name of a picture does; `jpg` alone is the name of a column."""
    name, _, ending = value.rpartition(".")
    return bool(name) and ending.lower() in IMAGE_ENDINGS


def _pictures_first(addresses: Sequence[str], texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return columns of URLs, those whose URLs end as pictures do first: a list may name pages too."""

    def share(name: str) -> float:
        return sum(is_picture_file(v.partition("?")[0]) for v in texts[name]) / len(texts[name])

    if not addresses:
        return []
    best = max(map(share, addresses))
    usual = [n for n in addresses if n.lower() in NAMES["url"]]
    return [n for n in (usual or addresses) if share(n) >= best / 2] or list(addresses)


def _reads_as_caption(values: Sequence[str]) -> bool:
    return _most((len(v.split()) >= _WORDS_OF_A_CAPTION for v in values), values)


def _are_unique(values: Sequence[Any]) -> bool:
    return None not in values and "" not in values and len({str(v) for v in values}) == len(values)
