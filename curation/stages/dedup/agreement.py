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


def agrees(measured: Mapping[str, npt.NDArray[Any]], bounds: Verify) -> Bools:
    """Return which pairs agree within the bounds, shape (n,).

    Args:
        measured: the columns MEASURED of `verified`, shape (n,) each; NaN for null.
        bounds: of the recipe.
    """
    flat_minimum = np.where(measured["flat"] > bounds.flat, bounds.flat_agreement, 0.0)
    other_details = measured["detail_colour"] > bounds.detail_colour
    other_details |= measured["detail_shape"] < bounds.detail_shape
    return np.asarray(
        (measured["agreement"] >= np.maximum(bounds.agreement, flat_minimum))
        & (measured["worst"] >= np.where(flat_minimum > 0, flat_minimum, -1.0))
        & (measured["steady"] >= bounds.steady)
        & (measured["inside"] >= bounds.inside)
        & (measured["hue"] <= bounds.hue)
        # What was not measured differs in nothing.
        & ~(measured["colour"] > bounds.colour)
        & ~((measured["drawn"] >= bounds.drawn) & other_details),
        dtype=bool,
    )
