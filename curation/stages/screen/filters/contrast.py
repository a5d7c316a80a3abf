"""Contrast: the standard deviation of the grey values, 0 for a blank image."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Standard deviation of the grey values of the stored image, from 0 to 127.5",
    unit="grey levels",
    type="float",
    usual="at_least: 5 drops blank images; no published value",
    score=lambda pair: float(pair.grey.std(dtype="float64")),
)
