"""The language of the caption."""

from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from curation.stages.screen.filters.base import Filter, Pair

MAX_CHARACTERS = 1_000
"""Characters of a caption that are classified."""
CACHE_SIZE = 1_024
"""Captions whose language is cached, since two filters use it."""


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=CACHE_SIZE)
def language_of(caption: str) -> tuple[str, float]:
    """Return the code of the most probable language, and its probability among all languages."""
    code, probability = _identifier().classify(caption[:MAX_CHARACTERS])
    return str(code), float(probability)


def score(pair: Pair) -> str | None:
    """Return the language code of the caption; None if it has no letters."""
    caption = pair.caption or ""
    return language_of(caption)[0] if any(char.isalpha() for char in caption) else None


FILTER = Filter(
    doc="Language code of the caption (langid, Lui and Baldwin 2012; 140 languages, most by ISO "
    "639-1); null without letters. It is often wrong for short captions: see caption_language_sure",
    unit="",
    type="string",
    usual="one_of: [en] (DataComp, basic filtering)",
    score=score,
)
