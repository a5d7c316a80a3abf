"""The block `match` of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curation.strict import Strict


class MatchParams(Strict):
    """How the pool is searched.

    `auto` is exact while that takes up to 2^50 multiplications, and `ivf_flat` beyond (see
    `knn/choice.py`). `ivf_pq` scores `refine`·k candidates again with the stored vectors. Without
    `nlist` it is four times the square root of the power of four at or below the pool's size.
    """

    encoder: str | None = None
    index: Literal["auto", "exact", "ivf_flat", "ivf_pq"] = "auto"
    nlist: int | None = Field(default=None, ge=1)
    nprobe: int = Field(default=32, ge=1)
    subquantizers: int = Field(default=24, ge=1)
    refine: int = Field(default=8, ge=1)
    recall_queries: int = Field(default=256, ge=1)
