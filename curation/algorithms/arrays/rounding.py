"""Bounds on the rounding of scores."""

from __future__ import annotations


def rounding_bound(dim: int) -> float:
    """Return how far a float32 score of vectors of length about 1 can be from the true one.

    Summing dim products in any order errs by at most about dim · 2^-24 (Higham 2002, section 3.1).
    """
    return (dim + 8) * 2.0**-23
