"""How sure the language of the caption is."""

from curation.stages.screen.filters.base import Filter, Pair
from curation.stages.screen.filters.caption_language import FILTER as LANGUAGE
from curation.stages.screen.filters.caption_language import language_of


def score(pair: Pair) -> float | None:
    """Return the probability of the likeliest language; None where the caption has no letter."""
    return language_of(pair.caption or "")[1] if LANGUAGE.score(pair) else None


FILTER = Filter(
    doc="Probability of caption_language among all languages (langid); null without a letter",
    unit="probability",
    type="float",
    usual="at_least: 0.5 leaves out guesses at short captions; no published value",
    score=score,
)
