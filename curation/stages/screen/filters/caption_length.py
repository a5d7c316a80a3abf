"""Length of the caption in characters."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Number of characters of the caption without surrounding white space; 0 without a caption",
    unit="characters",
    type="int32",
    usual="at_least: 5 (LAION-400M), 6 (DataComp, basic filtering)",
    score=lambda pair: len((pair.caption or "").strip()),
)
