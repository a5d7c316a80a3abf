"""The filters by name: each is a score of a picture or its caption, in a file of its own.

A new filter is a file here, a line below and a threshold under `select` in the recipe.
"""

FILTERS = {
    "min_side": "curation.stages.screen.filters.min_side",
    "aspect": "curation.stages.screen.filters.aspect",
    "file_size": "curation.stages.screen.filters.file_size",
    "caption_length": "curation.stages.screen.filters.caption_length",
    "caption_words": "curation.stages.screen.filters.caption_words",
    "caption_letters": "curation.stages.screen.filters.caption_letters",
    "caption_links": "curation.stages.screen.filters.caption_links",
    "caption_boilerplate": "curation.stages.screen.filters.caption_boilerplate",
    "caption_language": "curation.stages.screen.filters.caption_language",
    "caption_language_sure": "curation.stages.screen.filters.caption_language_sure",
    "entropy": "curation.stages.screen.filters.entropy",
    "contrast": "curation.stages.screen.filters.contrast",
    "brightness": "curation.stages.screen.filters.brightness",
    "blankness": "curation.stages.screen.filters.blankness",
    "sharpness": "curation.stages.screen.filters.sharpness",
    "blockiness": "curation.stages.screen.filters.blockiness",
    "colourfulness": "curation.stages.screen.filters.colourfulness",
}


TEXTS = ("caption_language",)
"""Filters whose scores are text, not numbers."""
ON_DEMAND = ("caption_language", "caption_language_sure")
"""Filters whose model takes a second or two to load on every worker."""


def default_filters() -> list[str]:
    """Return every filter that is cheap: thresholds decide later."""
    return [name for name in FILTERS if name not in ON_DEMAND]
