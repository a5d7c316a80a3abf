"""Words of the caption."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Words of the caption, parted by white space; 0 without a caption. Languages that do not part "
    "words have long ones",
    unit="words",
    type="int32",
    usual="at_least: 3 (DataComp, basic filtering)",
    score=lambda pair: len((pair.caption or "").split()),
)
