"""Parameters of searches and joins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from curation.engine.params_base import StrictModel, execution_only, refuse_without_effect

MAX_HAMMING_DISTANCE = 47
"""Largest number of differing bits that can be searched. At that distance unrelated pictures already
pass for copies, and a search looks at many lists."""


class HammingParams(StrictModel):
    """Pairs of images with near perceptual hashes of 256 bits, found exactly."""

    max_distance: int = Field(default=24, ge=0, le=MAX_HAMMING_DISTANCE)
    """Largest Hamming distance of a pair: how many of the 256 bits may differ."""
    k: int = Field(default=64, ge=1, le=1024)
    """Largest number of near hashes that are kept per image."""


class JoinParams(StrictModel):
    """How near vectors are found (see `curation/algorithms/knn/choice.py`)."""

    k: int = Field(default=64, ge=1, le=1024)
    """Number of nearest neighbours that are kept per image."""
    floor: float = Field(default=0.5, ge=-1, le=1)
    """Smallest cosine similarity of a stored pair; a threshold below it finds no further pairs."""
    join: Literal["auto", "exact", "cells"] = "auto"
    """`exact` compares all vectors with each other, `cells` only vectors in a common cell of a
    quantiser, and `auto` chooses `cells` only above 2^46 multiplications and if it saves at least
    three quarters of them."""
    spread: int = Field(default=4, ge=1, le=64)
    """With `cells`, the number of nearest cells that each vector is put into."""
    recall_queries: int = Field(default=256, ge=1)
    """With `cells`, the number of sampled images whose exact neighbours are computed to measure the
    recall."""

    @model_validator(mode="after")
    def _fit_the_join(self) -> JoinParams:
        if self.join == "exact":
            names = ("spread", "recall_queries")
            refuse_without_effect(
                self, names, "with join: exact", "Set join: cells, or leave it out"
            )
        return self


class ProbingParams(StrictModel):
    """How many lists of an index are searched for each query."""

    nprobe: int = Field(default=32, ge=1)
    """Number of inverted lists that are searched for each query."""


class IndexParams(ProbingParams):
    """Which index the pool gets (see `curation/algorithms/knn/choice.py`)."""

    index: Literal["auto", "exact", "ivf_flat", "ivf_pq"] = "auto"
    """`exact` compares every query with every pool vector, `ivf_flat` is an inverted file,
    `ivf_pq` an inverted file with product-quantised codes, and `auto` chooses `ivf_flat` only above
    2^50 multiplications and if it saves at least three quarters of them."""
    nlist: int | None = Field(default=None, ge=1)
    """Number of inverted lists of the index; null takes 4 · √n, where n is the largest power of 4
    that is no more than the number of pool vectors, but no more lists than vectors."""
    subquantizers: int = Field(default=24, ge=1)
    """With `ivf_pq`, the number of 8-bit codes per vector (bytes); it must divide the dimension of the
    vectors."""

    @model_validator(mode="after")
    def _fit_the_index(self) -> IndexParams:
        of_index = ("nlist", "nprobe", "recall_queries")
        of_codes = ("subquantizers", "refine")
        if self.index == "exact":
            self._refuse(of_index, "with index: exact", "Set another index, or leave it out")
        if self.index != "ivf_pq":
            self._refuse(
                of_codes, f"with index: {self.index}", "Set index: ivf_pq, or leave it out"
            )
        return self

    def _refuse(self, names: Iterable[str], reason: str, fix: str) -> None:
        # The block of a recipe also has the fields of SearchParams.
        here = [name for name in names if name in type(self).model_fields]
        refuse_without_effect(self, here, reason, fix)


class SearchParams(ProbingParams):
    """How an index is searched."""

    refine: int = execution_only(8, ge=1)
    """With `ivf_pq`, how many candidates per wanted neighbour `curation search` scores again with the
    stored vectors; `match` scores all vectors of the lists that a query probes."""
    recall_queries: int = Field(default=256, ge=1)
    """With an index, the number of sampled queries whose exact neighbours are computed to measure the
    recall."""
