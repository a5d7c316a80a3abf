"""Length of the caption in words."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Number of words of the caption, separated by white space; 0 without a caption. It is too "
    "small for languages without spaces between words",
    unit="words",
    type="int32",
    usual="at_least: 3 (DataComp, basic filtering)",
    score=lambda pair: len((pair.caption or "").split()),
)
