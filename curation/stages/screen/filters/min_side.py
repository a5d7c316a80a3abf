"""Shorter side of the original image."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Shorter side of the original image",
    unit="pixels",
    type="int32",
    usual="at_least: 200 (DataComp, basic filtering)",
    score=lambda pair: min(pair.original_width, pair.original_height),
)
