"""Texts of XMP packets (ISO 16684-1), read without namespaces and without a document type."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curation.media.pictures.metadata.texts import MAX_TEXT, Texts, add_text
from curation.media.web.untrusted_xml import local_name, read_xml

MAX_PACKET_BYTES = 2**20
"""Longer packets are read up to this size."""
MAX_PACKETS = 8
"""Packets of one picture that are read."""
_START, _END = "<rdf:RDF", "</rdf:RDF>"
_CODECS = ("utf-8", "utf-16-le", "utf-16-be")
_FIELDS = {
    "DataMining": "data_mining",
    "rights": "rights",
    "UsageTerms": "rights",
    "WebStatement": "rights",
    "Credit": "credit",
    "creator": "creator",
    "description": "description",
    "title": "description",
    "Headline": "description",
    "DateTimeOriginal": "taken",
    "DateCreated": "taken",
    "Make": "maker",
    "Model": "model",
    # Where a manifest of C2PA lies on the web.
    "provenance": "c2pa",
}
_RESOURCE = "rdf:resource"
_DATA_MINING = re.compile(r"\bDMI-[A-Z][A-Z-]{2,80}")
_MARK = b"DMI-PROHIBITED"
_WIDE_MARK = b"\0".join(_MARK[i : i + 1] for i in range(len(_MARK)))
_PROHIBITED = re.compile(_MARK + rb"[A-Z-]{0,80}|" + _WIDE_MARK + rb"(?:\0[A-Z-]){0,80}")
"""In UTF-8, or in either order of UTF-16."""


def add_xmp(texts: Texts, content: bytes) -> None:
    """Add the texts of all packets in some bytes. A prohibition counts wherever it stands in them."""
    if _MARK in content or _WIDE_MARK in content:
        for value in _PROHIBITED.findall(content):
            add_text(texts, "data_mining", value.replace(b"\0", b"").decode())
    for packet in _packets(content):
        reader = _PacketReader(texts)
        if not read_xml(packet.encode("utf-8", "replace"), reader, "utf-8"):
            # What stands before the fault counts.
            reader.flush()
        for value in _DATA_MINING.findall(packet):
            # Also of a packet that is no XML.
            add_text(texts, "data_mining", value)


def _packets(content: bytes) -> Iterator[str]:
    for codec in _CODECS:
        start, end, at = _START.encode(codec), _END.encode(codec), 0
        for _ in range(MAX_PACKETS):
            at = content.find(start, at)
            if at < 0:
                break
            stop = content.find(end, at, at + MAX_PACKET_BYTES)
            stop = at + MAX_PACKET_BYTES if stop < 0 else stop + len(end)
            yield content[at:stop].decode(codec, "replace")
            at = stop


class _PacketReader:
    """Adds the texts of one packet: those of attributes, and those within elements."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._fields: list[str | None] = []
        self._text: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See `XmlHandler.start`."""
        self.flush()
        within = self._fields[-1] if self._fields else None
        self._fields.append(_FIELDS.get(local_name(name), within))
        for attribute, value in attributes.items():
            field = (
                self._fields[-1] if attribute == _RESOURCE else _FIELDS.get(local_name(attribute))
            )
            if field:
                add_text(self._texts, field, value)

    def end(self, name: str) -> None:
        """See `XmlHandler.end`."""
        self.flush()
        self._fields.pop()

    def characters(self, text: str) -> None:
        """See `XmlHandler.characters`."""
        if self._fields and self._fields[-1] and len(self._text) < MAX_TEXT:
            self._text.append(text)

    def flush(self) -> None:
        """Add the text since the last start or end of an element."""
        if self._text and self._fields and (field := self._fields[-1]):
            add_text(self._texts, field, "".join(self._text))
        self._text.clear()
