"""The language of the caption."""

from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from curation.stages.screen.filters.base import Filter, Pair

LONGEST = 1_000
"""Characters that are looked at."""
SEEN = 1_024
"""Captions whose language is remembered: two filters ask for the same one."""


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=SEEN)
def language_of(caption: str) -> tuple[str, float]:
    """Return the code of the likeliest language, and its probability among all that it knows."""
    code, probability = _identifier().classify(caption[:LONGEST])
    return str(code), float(probability)


def score(pair: Pair) -> str | None:
    """Return the code of the caption's language; None where it has no letter."""
    caption = pair.caption or ""
    return language_of(caption)[0] if any(sign.isalpha() for sign in caption) else None


FILTER = Filter(
    doc="Code of the caption's language (after langid, Lui and Baldwin 2012; 140 languages, most by "
    "ISO 639-1); null without a letter. Of a few words it is often wrong: see caption_language_sure",
    unit="",
    type="string",
    usual="one_of: [en] (DataComp, basic filtering)",
    score=score,
)
