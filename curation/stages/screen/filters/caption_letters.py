"""Share of letters in the caption: low for codes, prices, rows of symbols."""

import unicodedata

from curation.stages.screen.filters.base import Filter, Pair


def score(pair: Pair) -> float | None:
    """Return the share of letters and marks of any script among all that is not white space."""
    signs = "".join((pair.caption or "").split())
    if not signs:
        return None
    letters = sum(unicodedata.category(sign)[0] in "LM" for sign in signs)
    return letters / len(signs)


FILTER = Filter(
    doc="Share of letters, of any script, among the characters of the caption that are not white "
    "space; null without a caption",
    unit="share",
    type="float",
    usual="at_least: 0.5; no published value",
    score=score,
)
