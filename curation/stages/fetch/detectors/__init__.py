"""The face detectors by name, each in a file of its own.

A new detector is a file in this folder and a line in `DETECTORS`. See docs/extending.md. The file has
`detect(image, weights, at_least)`: it returns a box (x, y, width, height) in pixels for each face in an
image (height, width, 3), uint8, blue first.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.engine.registry import Entry, Registry


@dataclass(frozen=True)
class DetectorEntry(Entry):
    """What the recipe needs to know of a detector: whether it needs a file under `weights`."""

    weights: bool = False


DETECTORS = Registry(
    "face detector",
    "curation.stages.fetch.detectors",
    {"haar": DetectorEntry(), "yunet": DetectorEntry(weights=True)},
)
