"""The grid of points: their sums and the sums of their squares have no rounding in float64."""

from __future__ import annotations

import numpy as np

from curation.algorithms.arrays.large_arrays import steps, zeros
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.nearest import POINTS_PER_BLOCK

GRID_STEPS = 2.0**24
"""Steps of the grid per unit: the spacing of float16 for values up to 1 is a multiple of 2^-24."""
MAX_UNIT_LENGTH = 1.0 + 2.0**-8
"""Largest length of a unit vector after rounding to float16."""
POINTS_PER_STEP = 1024
"""Points that a CPU converts to float64 at once, so that they fit in the cache."""


def round_to_grid(vectors: Vectors) -> tuple[Vectors, float]:
    """Return vectors whose sums have no rounding in float64: multiples of 2^-24 of length at most 1.

    float16 vectors of length at most 1 are on this grid, and are returned unchanged. Others are divided
    by a power of two if they are longer than 1, and rounded to the grid in float32.

    Args:
        vectors: (n, dim).

    Returns:
        The vectors on the grid, (n, dim), and the power of two.
    """
    longest = _longest(vectors)
    if vectors.dtype == np.float16 and longest <= MAX_UNIT_LENGTH:
        return vectors, 1.0
    # A power of two, because dividing by it rounds nothing.
    scale = 2.0 ** np.ceil(np.log2(longest)) if longest > 0 else 1.0
    scale = scale if longest > MAX_UNIT_LENGTH else 1.0
    rounded: Vectors = zeros(vectors.shape, np.float32)
    for part in steps(rounded):
        doubles = vectors[part].astype(np.float64)
        rounded[part] = np.rint(doubles * (GRID_STEPS / scale)) / GRID_STEPS
    return rounded, float(scale)


def _longest(vectors: Vectors) -> float:
    longest = 0.0
    for start in range(0, len(vectors), POINTS_PER_BLOCK):
        block = vectors[start : start + POINTS_PER_BLOCK].astype(np.float32)
        longest = max(longest, float(np.sqrt(np.einsum("nd,nd->n", block, block).max(initial=0))))
    return longest
