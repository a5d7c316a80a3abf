"""What a filter is: one score of one fetched pair."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Score = float | str | None
LARGE = 64
"""Shorter side from which half the size tells as much of a picture's colours."""


@dataclass(frozen=True)
class Pair:
    """A fetched pair as filters see it: the original's facts and the stored pixels.

    `image` is the stored file, `grey` the picture in it in grey, uint8 of shape (height, width).
    """

    original_width: int
    original_height: int
    bytes: int
    caption: str | None
    image: builtins.bytes
    grey: npt.NDArray[np.uint8]

    @cached_property
    def colour(self) -> npt.NDArray[np.uint8] | None:
        """The stored picture, a large one at half its size: uint8 (height, width, 3), blue first.

        None if it cannot be decoded.
        """
        import cv2
        import numpy as np

        large = min(self.grey.shape) >= LARGE
        how = cv2.IMREAD_REDUCED_COLOR_2 if large else cv2.IMREAD_COLOR
        found = cv2.imdecode(np.frombuffer(self.image, np.uint8), how)
        return None if found is None else np.asarray(found, np.uint8)


@dataclass(frozen=True)
class Filter:
    """A named score; None where it does not apply. `usual` is the field's usual threshold."""

    doc: str
    unit: str
    type: Literal["float", "int32", "string"]
    usual: str
    score: Callable[[Pair], Score]
