"""Texts of IPTC's information interchange model, as Photoshop writes it."""

from __future__ import annotations

from collections.abc import Iterator

from curation.media.pictures.metadata.texts import Texts, add_text, decoded

PHOTOSHOP = b"Photoshop 3.0\0"
_RESOURCE, _IPTC = b"8BIM", 0x0404
_MARKER, _APPLICATION_RECORD, _LONG = 0x1C, 2, 0x8000
_MAX_DATASETS = 2000
_FIELDS = {
    116: "rights",
    110: "credit",
    80: "creator",
    5: "description",
    105: "description",
    120: "description",
    55: "taken",
}


def add_iptc(texts: Texts, content: bytes) -> None:
    """Add the texts of data sets, from Photoshop's resources or as they are."""
    if content.startswith(_RESOURCE):
        for kind, data in _resources(content):
            if kind == _IPTC:
                _add_datasets(texts, data)
    else:
        _add_datasets(texts, content)


def _resources(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    for _ in range(_MAX_DATASETS):
        if content[at : at + 4] != _RESOURCE or at + 7 > len(content):
            return
        kind = int.from_bytes(content[at + 4 : at + 6])
        at += 6 + (content[at + 6] + 2) // 2 * 2
        size = int.from_bytes(content[at : at + 4])
        yield kind, content[at + 4 : at + 4 + size]
        at += 4 + (size + 1) // 2 * 2


def _add_datasets(texts: Texts, content: bytes) -> None:
    at = 0
    for _ in range(_MAX_DATASETS):
        if at + 5 > len(content) or content[at] != _MARKER:
            return
        record, number = content[at + 1], content[at + 2]
        size, at = int.from_bytes(content[at + 3 : at + 5]), at + 5
        if size & _LONG:
            digits = size & ~_LONG
            size, at = int.from_bytes(content[at : at + min(digits, 8)]), at + digits
        if record == _APPLICATION_RECORD and number in _FIELDS:
            add_text(texts, _FIELDS[number], decoded(content[at : at + size]))
        at += size
