"""Confidence of the language of the caption."""

from curation.stages.screen.filters.base import Filter, Pair
from curation.stages.screen.filters.caption_language import FILTER as LANGUAGE
from curation.stages.screen.filters.caption_language import language_of


def score(pair: Pair) -> float | None:
    """Return the probability of the most probable language; None if the caption has no letters."""
    return language_of(pair.caption or "")[1] if LANGUAGE.score(pair) else None


FILTER = Filter(
    doc="Probability of caption_language among all languages (langid); null without letters",
    unit="probability",
    type="float",
    usual="at_least: 0.5 drops uncertain languages of short captions; no published value",
    score=score,
)
