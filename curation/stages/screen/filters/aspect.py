"""Aspect ratio: longer side divided by shorter side."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Longer side of the original image divided by its shorter side",
    unit="ratio",
    type="float",
    usual="at_most: 3 (DataComp, basic filtering)",
    score=lambda pair: (
        max(pair.original_width, pair.original_height)
        / min(pair.original_width, pair.original_height)
    ),
)
