"""Texts of metadata by field."""

from __future__ import annotations

import re
from collections.abc import Iterable

Texts = dict[str, list[str]]
"""Texts by field: data_mining, rights, credit, creator, description, taken, maker, model, c2pa."""
MAX_TEXT = 1000
"""Longest text of a field in characters; the rest is cut off."""
MAX_TEXTS = 20
"""Texts of one field that are read."""
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]+")


def clean_text(value: str) -> str:
    """Return a text on one line, without control characters, and cut to MAX_TEXT characters."""
    return _BLANK.sub(" ", value[: 4 * MAX_TEXT]).strip()[:MAX_TEXT]


def add_text(texts: Texts, field: str, value: str) -> None:
    """Add a text to a field, on one line and without control characters; none twice."""
    clean = clean_text(value)
    known = texts.setdefault(field, [])
    if clean and clean not in known and len(known) < MAX_TEXTS:
        known.append(clean)


def decoded(content: bytes) -> str:
    """Return text in UTF-8, or else in Latin-1."""
    start = content[: 4 * MAX_TEXT]
    try:
        return start.decode()
    except UnicodeDecodeError as error:
        cut_character = error.start > len(start) - 4 and len(content) > len(start)
        return start[: error.start].decode() if cut_character else start.decode("latin-1")


def joined(values: Iterable[str]) -> str | None:
    """Return several texts as one, or None for none."""
    return "; ".join(values)[:MAX_TEXT] or None
