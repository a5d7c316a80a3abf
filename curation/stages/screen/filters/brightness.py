"""How bright the picture is."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Mean grey value of the stored picture (0 black to 255 white)",
    unit="grey levels",
    type="float",
    usual="at_least: 10 drops nearly black pictures, at_most: 245 nearly white ones; none published",
    score=lambda pair: float(pair.grey.mean(dtype="float64")),
)
