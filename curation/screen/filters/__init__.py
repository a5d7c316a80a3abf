"""The filters by name: each is a score of a picture or its caption, in a file of its own.

A new filter is a file here, a line below and a threshold under `select` in the recipe.
"""

FILTERS = {
    "min_side": "curation.screen.filters.min_side",
    "aspect": "curation.screen.filters.aspect",
    "file_size": "curation.screen.filters.file_size",
    "caption_length": "curation.screen.filters.caption_length",
    "entropy": "curation.screen.filters.entropy",
    "contrast": "curation.screen.filters.contrast",
}


def default_filters() -> list[str]:
    """Return every filter: scores are cheap, and thresholds decide later."""
    return list(FILTERS)
