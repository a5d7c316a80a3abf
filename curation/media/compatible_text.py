"""Texts of strangers in their compatible form (NFKC), in a time that is linear in their length."""

from __future__ import annotations

import unicodedata
from itertools import groupby

_SORTED_AT_ONCE = 1000
"""Characters of a text up to which Python sorts the marks on its letters in little time."""


def compatible(text: str) -> str:
    """Return a text in which compatible characters are the same (NFKC)."""
    if len(text) > _SORTED_AT_ONCE:
        text = in_canonical_order(text)
    return unicodedata.normalize("NFKC", text)


def in_canonical_order(text: str) -> str:
    """Return an equivalent text whose marks are sorted (Unicode, section 3.11, D109).

    Python sorts them by insertion: a hundred thousand marks on one letter would take it a minute.
    """
    decomposed = "".join(unicodedata.normalize("NFKD", character) for character in text)
    runs = groupby(decomposed, lambda character: unicodedata.combining(character) > 0)
    return "".join(
        character
        for is_marks, run in runs
        for character in (sorted(run, key=unicodedata.combining) if is_marks else run)
    )
