"""Brightness: the mean grey value."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Mean grey value of the stored image, from 0 (black) to 255 (white)",
    unit="grey levels",
    type="float",
    usual="at_least: 10 drops nearly black images, at_most: 245 nearly white ones; no published value",
    score=lambda pair: float(pair.grey.mean(dtype="float64")),
)
