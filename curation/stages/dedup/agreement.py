"""Whether what was measured of pairs lies within a recipe's bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools
from curation.stages.dedup.params import Verify

MEASURED = ("agreement", "worst", "steady", "inside", "hue", "flat")
"""Columns of `verified` that the bounds are about."""


def agrees(measured: Mapping[str, npt.NDArray[Any]], bounds: Verify) -> Bools:
    """Return which pairs agree, (n,); `measured` has the columns MEASURED of `verified`, each (n,)."""
    least = np.where(measured["flat"] > bounds.flat, bounds.flat_agreement, 0.0)
    return np.asarray(
        (measured["agreement"] >= np.maximum(bounds.agreement, least))
        & (measured["worst"] >= np.where(least > 0, least, -1.0))
        & (measured["steady"] >= bounds.steady)
        & (measured["inside"] >= bounds.inside)
        & (measured["hue"] <= bounds.hue),
        dtype=bool,
    )
