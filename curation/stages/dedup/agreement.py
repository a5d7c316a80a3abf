"""Whether the measures of compared pairs are within the bounds of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools
from curation.stages.dedup.params import Verify

MEASURED = (
    *("agreement", "worst", "steady", "inside", "hue", "flat"),
    *("colour", "drawn", "detail_colour", "detail_shape"),
)
"""Columns of `verified` that have bounds."""
PARTLY_DRAWN = 0.5
"""Share `drawn` up to which an image is no graphic at all; details are measured from there on."""
WIDTH = 3.0
"""How many times as wide the bounds on colours and details are there as in graphics."""


def agrees(measured: Mapping[str, npt.NDArray[Any]], bounds: Verify) -> Bools:
    """Return which pairs agree within the bounds, shape (n,).

    Args:
        measured: the columns MEASURED of `verified`, shape (n,) each; NaN for null. They count as
            float32.
        bounds: of the recipe.
    """
    # As numbers of the table, so that 19 of 20 blocks are never less than a bound of 0.95.
    measured = {name: np.asarray(measured[name], np.float32) for name in MEASURED}
    is_flat = measured["flat"] > bounds.flat
    flat_minimum = np.where(is_flat, np.float32(bounds.flat_agreement), np.float32(0))
    width = _width(measured["drawn"], bounds.drawn)
    # What was not measured differs in nothing.
    other = measured["colour"] > bounds.colour * width / WIDTH
    other |= measured["detail_colour"] > bounds.detail_colour * width
    other |= 1 - measured["detail_shape"] > (1 - bounds.detail_shape) * width
    return np.asarray(
        (measured["agreement"] >= np.maximum(np.float32(bounds.agreement), flat_minimum))
        & (measured["worst"] >= np.where(flat_minimum > 0, flat_minimum, np.float32(-1)))
        & (measured["steady"] >= bounds.steady)
        & (measured["inside"] >= bounds.inside)
        & (measured["hue"] <= bounds.hue)
        & ~other,
        dtype=bool,
    )


def _width(drawn: npt.NDArray[Any], graphic: float) -> npt.NDArray[Any]:
    """Return how wide the bounds are: 1 for graphics, WIDTH for photographs.

    It falls evenly between both. An image of which `drawn` was not measured counts as a photograph.
    """
    if graphic <= PARTLY_DRAWN:
        return np.where(drawn >= graphic, np.float32(1), np.float32(WIDTH))
    part = (graphic - np.nan_to_num(drawn, nan=0.0)) / (graphic - PARTLY_DRAWN)
    return np.asarray(1 + (WIDTH - 1) * np.clip(part, 0, 1))
