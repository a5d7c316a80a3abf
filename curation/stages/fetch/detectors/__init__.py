"""The face detectors by name, each in a file of its own.

To add a detector, add a file to this folder and a line to `DETECTORS` (see docs/extending.md). The file
defines `detect(image, weights, at_least)`. It gets an image, uint8 (height, width, 3) in BGR order, and
the bytes of its weights, and returns a box (x, y, width, height) in pixels for each face.
"""

from __future__ import annotations

from dataclasses import dataclass

from curation.engine.registry import Entry, Registry


@dataclass(frozen=True)
class DetectorEntry(Entry):
    """A face detector.

    Attributes:
        weights: whether it needs a file under `faces.weights`.
    """

    weights: bool = False


DETECTORS = Registry(
    "face detector",
    "curation.stages.fetch.detectors",
    {"haar": DetectorEntry(), "yunet": DetectorEntry(weights=True)},
)
