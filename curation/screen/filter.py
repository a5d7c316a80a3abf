"""What a filter is: one score of one fetched pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Pair:
    """A fetched pair as filters see it: the original's facts and the stored pixels.

    `grey` is the stored picture in grey, uint8 of shape (height, width).
    """

    original_width: int
    original_height: int
    bytes: int
    caption: str | None
    grey: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Filter:
    """A named score; None where it does not apply. `usual` is the field's usual threshold."""

    doc: str
    unit: str
    type: Literal["float", "int32"]
    usual: str
    score: Callable[[Pair], float | None]
