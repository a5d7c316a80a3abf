"""Filters: each gives one score of a fetched pair."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from curation.errors import ContractError, Detail

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Score = float | str | None
ColumnType = Literal["float", "int32", "string"]
MIN_SIDE_TO_HALVE = 64
"""Shorter side in pixels from which the colours of an image can be measured at half its size."""


@dataclass(frozen=True)
class Pair:
    """A fetched pair as filters get it.

    Attributes:
        original_width: of the original image, in pixels.
        original_height: of the original image, in pixels.
        bytes: size of the original file.
        caption: of the image.
        image: the stored image, encoded.
        grey: the stored image in grey, uint8 (height, width).
    """

    original_width: int
    original_height: int
    bytes: int
    caption: str | None
    image: builtins.bytes
    grey: npt.NDArray[np.uint8]

    @cached_property
    def colour(self) -> npt.NDArray[np.uint8] | None:
        """The stored image, uint8 (height, width, 3) in BGR order; None if it cannot be decoded.

        A large image is decoded at half its size.
        """
        import cv2
        import numpy as np

        is_large = min(self.grey.shape) >= MIN_SIDE_TO_HALVE
        flags = cv2.IMREAD_REDUCED_COLOR_2 if is_large else cv2.IMREAD_COLOR
        decoded = cv2.imdecode(np.frombuffer(self.image, np.uint8), flags)
        return None if decoded is None else np.asarray(decoded, np.uint8)


@dataclass(frozen=True)
class Filter:
    """A filter.

    Attributes:
        doc: what the score measures; it is written to the column's metadata.
        unit: of the score.
        type: of the column.
        usual: a usual threshold, with its source.
        score: returns the score of a pair; None if it has none.
    """

    doc: str
    unit: str
    type: ColumnType
    usual: str
    score: Callable[[Pair], Score]

    def value(self, name: str, pair: Pair) -> Score:
        """Return the score of a pair as its column holds it; of one that is not a number, None.

        Args:
            name: of the filter, for messages.
            pair: what is scored.

        Raises:
            ContractError: the score is of another type than the column: Arrow would cut 0.7 to 0.
        """
        # A plug-in may give anything.
        score: Any = self.score(pair)
        if score is None or score != score:
            return None
        if self.type == "float" and isinstance(score, Real):
            return float(score)
        if self.type == "int32" and isinstance(score, Integral) and abs(int(score)) < 2**31:
            return int(score)
        if self.type == "string" and isinstance(score, str):
            return score
        raise ContractError(
            Detail(
                f"the filter {name!r} scored {score!r}, which is no {self.type}",
                f"scores.{name}",
                str(score),
                fix="Return a value of the type that the filter declares, or None",
            )
        )
