"""Share of letters in the caption: low for codes, prices and rows of symbols."""

import unicodedata

from curation.stages.screen.filters.base import Filter, Pair


def score(pair: Pair) -> float | None:
    """Return the share of letters and marks of any script among all characters but white space."""
    characters = "".join((pair.caption or "").split())
    if not characters:
        return None
    letters = sum(unicodedata.category(char)[0] in "LM" for char in characters)
    return letters / len(characters)


FILTER = Filter(
    doc="Share of letters of any script among the characters of the caption, without white space; null "
    "without a caption",
    unit="share",
    type="float",
    usual="at_least: 0.5; no published value",
    score=score,
)
