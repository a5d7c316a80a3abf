"""Float64 inner products of pairs on a device, with the same bits as `products.exact_similarity`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curation.algorithms.arrays.device_memory import fits, send_ahead
from curation.algorithms.arrays.rounding import bound_by_lengths
from curation.algorithms.arrays.vectors import Bools, RowNumbers, Vectors

VALUES_PER_STEP = 2**26
"""Values of one factor that are gathered at once: 512 MB in float64."""
BYTES_PER_VALUE = 6
"""A value of a vector in float16, and in float32 while lengths are measured."""


def products_fit(queries: Vectors, base: Vectors, device: str) -> bool:
    """Whether a device holds both factors, (n, dim) and (b, dim)."""
    return fits((queries.size + base.size) * BYTES_PER_VALUE, torch.device(device))


def device_similarity(
    queries: Vectors, base: Vectors, query: RowNumbers, row: RowNumbers, device: str
) -> tuple[npt.NDArray[np.float32], Bools]:
    """Return the float64 dot product of each pair in float32, and where it may not be the exact one.

    A device adds up in another order than numpy. The two results are within a bound of each other, so
    they round to different float32 numbers only where a boundary between two of these is that near.

    Args:
        queries: shape (n, dim).
        base: shape (b, dim).
        query: row of `queries` of each pair, shape (m,).
        row: row of `base` of each pair, shape (m,).
        device: `cpu` or `cuda[:n]`.

    Returns:
        Products and where they are unsure, shape (m,) each.
    """
    left, right = send_ahead((queries, base), device)
    bound = bound_by_lengths(base.shape[1], _longest(left), _longest(right))
    similarity, unsure = np.empty(len(query), np.float32), np.empty(len(query), bool)
    step = max(1, VALUES_PER_STEP // base.shape[1])
    parts = [slice(start, start + step) for start in range(0, len(query), step)]
    pairs = send_ahead((np.stack([query[part], row[part]]) for part in parts), device)
    for part, (queries_of, rows_of) in zip(parts, pairs, strict=True):
        exact = left.index_select(0, queries_of).double()
        products = exact.mul_(right.index_select(0, rows_of)).sum(dim=1)
        low = (products - bound).float()
        similarity[part] = low.cpu().numpy()
        unsure[part] = (low != (products + bound).float()).cpu().numpy()
    return similarity, unsure


def _longest(vectors: Tensor) -> float:
    """Return the largest length of vectors (n, dim), or a little more: float32 may make it smaller."""
    return 1.001 * float(vectors.float().norm(dim=1).max())
