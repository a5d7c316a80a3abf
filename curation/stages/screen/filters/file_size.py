"""Size of the original file in bytes."""

from curation.stages.screen.filters.base import Filter

FILTER = Filter(
    doc="Size of the original file",
    unit="bytes",
    type="int32",
    usual="at_least: 5000 (LAION-400M)",
    score=lambda pair: pair.bytes,
)
