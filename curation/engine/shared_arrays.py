"""Arrays that every task of an exchange needs: large ones are stored once, and tasks read them."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.exchange_runner import WorkTable

SENT_BYTES = 2**20
"""Largest array that is sent along with the arguments of a task. Above 2 GiB, Spark could send none."""
Numbers: TypeAlias = npt.NDArray[Any]
Shared: TypeAlias = Numbers | WorkTable
"""An array, or the work table that it stands in."""


class Keeper(Protocol):
    """What keeps a table that is made where the stage runs, such as an `ExchangeRunner`."""

    def keep(self, label: str, rows: pa.RecordBatch) -> WorkTable:
        """Return a work table of some rows."""


def share(array: Numbers, label: str, keeper: Keeper) -> Shared:
    """Return what tasks are sent of an array, and `array_of` understands.

    Args:
        array: numbers, of any shape.
        label: says which, in the names of files.
        keeper: keeps a large array.
    """
    if array.nbytes <= SENT_BYTES or array.ndim != 1 or array.dtype.kind not in "iuf":
        return array
    return keeper.keep(label, pa.RecordBatch.from_arrays([pa.array(array)], ["value"]))


def array_of(shared: Shared) -> Numbers:
    """Return the array that was given to `share`."""
    if isinstance(shared, np.ndarray):
        return shared
    values: Numbers = shared.read(["value"]).column("value").to_numpy()
    return values
