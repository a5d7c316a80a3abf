"""Two questions that sorted arrays answer: where equal values begin, and where a value stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def run_starts(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which rows begin a run: they differ from the row before in some column.

    Args:
        columns: at least one array of shape (n,), or (n, …) where all of a row is compared.

    Returns:
        Shape (n,). The first row begins a run.

    Examples:
        >>> run_starts(np.array([3, 3, 5]), np.array([1, 1, 1])).tolist()
        [True, False, True]
    """
    starts = np.ones(len(columns[0]), dtype=bool)
    if len(starts) > 1:
        starts[1:] = False
        for column in columns:
            differs = column[1:] != column[:-1]
            starts[1:] |= differs.reshape(len(differs), -1).any(axis=1)
    return starts


def positions_in(
    values: npt.NDArray[Any], among: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return where values stand in a sorted array, and which of them are there at all.

    Args:
        values: shape (n,), in any order.
        among: shape (m,), sorted.

    Returns:
        Positions (n,), each a valid index where `among` is not empty, and whether the value there is
        the one that was looked for (n,). The first of equal values in `among` is meant.

    Examples:
        >>> positions_in(np.array([5, 4]), np.array([3, 5]))
        (array([1, 1]), array([ True, False]))
    """
    if not len(among):
        return np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=bool)
    positions = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return positions, np.asarray(among[positions] == values, dtype=bool)
