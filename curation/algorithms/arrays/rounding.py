"""Bounds on the rounding errors of inner products."""

from __future__ import annotations


def rounding_bound(dim: int) -> float:
    """Return how far the float32 inner product of two vectors of length about 1 can be from exact.

    In any order of summation, the error of a sum of `dim` products is at most about dim · 2^-24 (Higham
    2002, Accuracy and Stability of Numerical Algorithms, section 3.1). The bound is twice that, and a
    little more for vectors that are slightly longer than 1.

    Args:
        dim: number of dimensions.
    """
    return (dim + 8) * 2.0**-23


def bound_by_lengths(dim: int, left: float, right: float) -> float:
    """Return how far apart two float64 inner products of the same pair can be.

    Args:
        dim: dimension of the vectors.
        left: length of one of the two, or more.
        right: length of the other, or more.
    """
    return 2 * (dim + 8) * 2.0**-53 * left * right
