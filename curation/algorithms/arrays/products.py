"""Inner products of pairs in float64: the same bits, whatever else is computed with them."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.rounding import bound_by_lengths
from curation.algorithms.arrays.vectors import Bools, RowNumbers, Vectors
from curation.engine.device import CPU

VALUES_PER_STEP = 2**18
"""Values of one factor that are gathered at once: 2 MB in float64, which stay in the cache."""


def exact_similarity(
    queries: Vectors, base: Vectors, query: RowNumbers, row: RowNumbers, device: str = CPU
) -> npt.NDArray[np.float32]:
    """Return the float64 dot product of each pair, rounded to float32.

    A GPU computes those that it can tell to be the same bits, if it holds the vectors.

    Args:
        queries: shape (n, dim).
        base: shape (b, dim).
        query: row of `queries` of each pair, shape (m,).
        row: row of `base` of each pair, shape (m,).
        device: `cpu` or `cuda[:n]`.

    Returns:
        Shape (m,).
    """
    if device != CPU and len(query):
        from curation.algorithms.arrays.device_products import device_similarity, products_fit

        if products_fit(queries, base, device):
            similarity, unsure = device_similarity(queries, base, query, row, device)
            similarity[unsure] = exact_similarity(queries, base, query[unsure], row[unsure])
            return similarity
    similarity = np.empty(len(query), dtype=np.float32)
    step = max(1, VALUES_PER_STEP // base.shape[1])
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        left, right = _doubles(queries[query[part]]), _doubles(base[row[part]])
        similarity[part] = np.einsum("md,md->m", left, right)
    return similarity


def _doubles(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Return vectors (n, dim) in float64, which rounds nothing."""
    # torch widens float16 several times as fast as numpy, but its import takes seconds.
    torch = sys.modules.get("torch")
    if torch is not None and vectors.dtype == np.float16:
        vectors = torch.from_numpy(vectors).float().numpy()
    return vectors.astype(np.float64)


def rounded_products(queries: Vectors, rows: Vectors) -> tuple[npt.NDArray[np.float32], Bools]:
    """Return the dot product of every pair in float32, and where it may not be the rounded exact one.

    The sums of a matrix product are added up in another order than those of `exact_similarity`. Both
    are within a bound of the exact value (Higham 2002, section 3.1), so they can round to different
    float32 numbers only if a boundary between two of these lies within the bound.

    Args:
        queries: shape (n, dim).
        rows: shape (m, dim).

    Returns:
        Products and where they are unsure, shape (n, m) each.
    """
    left, right = queries.astype(np.float64), rows.astype(np.float64)
    products = left @ right.T
    bound = products_bound(left, right)
    low, high = (products - bound).astype(np.float32), (products + bound).astype(np.float32)
    return low, low != high


def products_bound(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    """Return how far apart two float64 dot products of the same pair of rows can be.

    Args:
        left: shape (n, dim).
        right: shape (m, dim).
    """
    lengths = [np.sqrt(np.einsum("nd,nd->n", part, part).max(initial=0)) for part in (left, right)]
    return bound_by_lengths(left.shape[1], float(lengths[0]), float(lengths[1]))
