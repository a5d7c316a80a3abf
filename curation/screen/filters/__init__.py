"""The filters by name: each is a score of a picture or its caption, in a file of its own.

A new filter is a file here, a line below and a threshold under `select` in the recipe.
"""

FILTERS = {
    "min_side": "curation.screen.filters.min_side",
    "aspect": "curation.screen.filters.aspect",
    "file_size": "curation.screen.filters.file_size",
    "caption_length": "curation.screen.filters.caption_length",
    "caption_words": "curation.screen.filters.caption_words",
    "caption_letters": "curation.screen.filters.caption_letters",
    "caption_links": "curation.screen.filters.caption_links",
    "caption_boilerplate": "curation.screen.filters.caption_boilerplate",
    "caption_language": "curation.screen.filters.caption_language",
    "caption_language_sure": "curation.screen.filters.caption_language_sure",
    "entropy": "curation.screen.filters.entropy",
    "contrast": "curation.screen.filters.contrast",
    "brightness": "curation.screen.filters.brightness",
    "blankness": "curation.screen.filters.blankness",
    "sharpness": "curation.screen.filters.sharpness",
    "blockiness": "curation.screen.filters.blockiness",
    "colourfulness": "curation.screen.filters.colourfulness",
}


TEXTS = ("caption_language",)
"""Filters whose scores are text, not numbers."""
ON_DEMAND = ("caption_language", "caption_language_sure")
"""Filters whose model takes a second or two to load on every worker."""


def default_filters() -> list[str]:
    """Return every filter that is cheap: thresholds decide later."""
    return [name for name in FILTERS if name not in ON_DEMAND]
