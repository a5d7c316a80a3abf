"""The columns of `images` that metadata gives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from curation.media.pictures.metadata.containers import add_metadata
from curation.media.pictures.metadata.content_credentials import NO_MANIFESTS, Manifests
from curation.media.pictures.metadata.texts import Texts, joined

_KEPT = {
    "camera": ("maker", "model"),
    "creator": ("creator",),
    "description": ("description",),
    "taken": ("taken",),
}
TRAINING_MINING = "training_mining"
"""What is kept of manifests of C2PA."""


def metadata_columns(
    content: bytes, kind: str, keep: Sequence[str], manifests: Manifests = NO_MANIFESTS
) -> dict[str, str | bool | None]:
    """Return the columns data_mining, rights, credit, has_c2pa and kept_metadata of a file.

    Args:
        content: the file, not trusted.
        kind: its format, as in the table `images`.
        keep: what becomes part of `kept_metadata`; see `FetchParams.keep_metadata`.
        manifests: those of the picture, if they were read.
    """
    texts: Texts = {}
    add_metadata(texts, content, kind)
    return {
        "data_mining": _data_mining(texts.get("data_mining", [])),
        "rights": joined(texts.get("rights", [])),
        "credit": joined(texts.get("credit", [])),
        "has_c2pa": bool(texts.get("c2pa")),
        "kept_metadata": _kept(texts, keep, manifests),
    }


def _data_mining(values: Sequence[str]) -> str | None:
    """Return the strictest value of PLUS; where several are given, one that prohibits counts."""
    names = [value.rpartition("/")[2] or value for value in values]
    ranks = ("DMI-PROHIBITED", "DMI-UNSPECIFIED", "DMI-ALLOWED")
    for name in sorted(names, key=lambda name: ("-GENAI" in name, len(name))):
        if name.startswith(ranks[0]):
            return name
    stated = [name for name in names if not name.startswith(ranks[1:])]
    return next(iter(stated or names), None)


def _kept(texts: Texts, keep: Sequence[str], manifests: Manifests) -> str | None:
    values = {name: joined(_texts_of(name, texts, manifests)) for name in keep}
    stated = {name: value for name, value in values.items() if value}
    return json.dumps(stated, ensure_ascii=False) if stated else None


def _texts_of(name: str, texts: Texts, manifests: Manifests) -> Iterable[str]:
    if name != TRAINING_MINING:
        return (text for field in _KEPT[name] for text in texts.get(field, []))
    if manifests.is_unreadable:
        return ("unreadable",)
    return (permission.text for permission in manifests.permissions)
