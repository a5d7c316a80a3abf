"""Reads XML of strangers without namespaces and without a document type, up to its first fault."""

from __future__ import annotations

from typing import Protocol
from xml.parsers import expat


class XmlHandler(Protocol):
    """Gets the parts of a document in their order."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""

    def end(self, name: str) -> None:
        """Take the end of an element."""

    def characters(self, text: str) -> None:
        """Take text, of which an element may have several parts."""


def read_xml(content: bytes, handler: XmlHandler, encoding: str | None = None) -> bool:
    """Pass a document to a handler, up to its first fault; return whether it has none.

    Args:
        content: the document.
        handler: gets its parts.
        encoding: of the document; None where the document says it.
    """
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.characters
    # A document type is where entities are declared.
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError):
        return False
    return True


def local_name(name: str) -> str:
    """Return the name of an element or attribute without its prefix."""
    return name.rpartition(":")[2]


def _refuse(*_: object) -> None:
    raise ValueError("a document type")
