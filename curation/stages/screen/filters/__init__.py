"""The filters by name: each scores an image or its caption, in a file of its own.

To add a filter, add a file to this folder and a line to `FILTERS` (see docs/extending.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.engine.registry import Entry, Registry


@dataclass(frozen=True)
class FilterEntry(Entry):
    """What the recipe needs to know about a filter.

    Attributes:
        text: its scores are text, not numbers.
        caption: it scores the caption alone, so that rows without pixels have its score too.
    """

    text: bool = False
    caption: bool = False


FILTERS = Registry(
    "filter",
    "curation.stages.screen.filters",
    {
        "min_side": FilterEntry(),
        "aspect": FilterEntry(),
        "file_size": FilterEntry(),
        "caption_length": FilterEntry(caption=True),
        "caption_words": FilterEntry(caption=True),
        "caption_letters": FilterEntry(caption=True),
        "caption_links": FilterEntry(caption=True),
        "caption_boilerplate": FilterEntry(version=2, caption=True),
        "caption_language": FilterEntry(text=True, caption=True),
        "caption_language_sure": FilterEntry(caption=True),
        "entropy": FilterEntry(),
        "contrast": FilterEntry(),
        "brightness": FilterEntry(),
        "blankness": FilterEntry(),
        "sharpness": FilterEntry(),
        "blockiness": FilterEntry(),
        "colourfulness": FilterEntry(),
    },
    requires=("FILTER",),
)

DEFAULT_FILTERS = (
    "min_side",
    "aspect",
    "file_size",
    "caption_length",
    "caption_words",
    "caption_letters",
    "caption_links",
    "caption_boilerplate",
    "entropy",
    "contrast",
    "brightness",
    "blankness",
    "sharpness",
    "blockiness",
    "colourfulness",
)
"""Filters of a recipe that lists none. New filters are not added, so that stored runs stay valid."""
