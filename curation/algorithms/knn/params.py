"""Parameters of searches and joins."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curation.engine.params_base import StrictModel

MAX_HAMMING_DISTANCE = 47
"""Largest number of differing bits that can be searched: hash tables of 16 bits find it when they look
up all entries within 2 bits. At that distance unrelated pictures already pass for copies."""


class HammingParams(StrictModel):
    """Near hashes: at most `max_distance` of 256 bits differ, among the `k` nearest."""

    max_distance: int = Field(default=24, ge=0, le=MAX_HAMMING_DISTANCE)
    k: int = Field(default=64, ge=1, le=1024)


class JoinParams(StrictModel):
    """How near vectors are found: the `k` nearest of each whose cosine is at least `floor`.

    `auto` is exact up to 2^46 multiplications (see `curation/algorithms/knn/choice.py`). Above that,
    vectors are compared within `cells`: each vector is put into its `spread` nearest cells, and the
    recall is measured with `recall_queries` vectors.
    """

    k: int = Field(default=64, ge=1, le=1024)
    floor: float = Field(default=0.5, ge=-1, le=1)
    join: Literal["auto", "exact", "cells"] = "auto"
    spread: int = Field(default=4, ge=1, le=64)
    recall_queries: int = Field(default=256, ge=1)


class ProbingParams(StrictModel):
    """How many lists of an index are searched for each query."""

    nprobe: int = Field(default=32, ge=1)


class IndexParams(ProbingParams):
    """Which index the pool gets.

    `auto` is exact search up to 2^50 multiplications, and `ivf_flat` above that (see
    `curation/algorithms/knn/choice.py`). Without `nlist` the index has four times as many lists as the
    square root of the power of four at or below the size of the pool.
    """

    index: Literal["auto", "exact", "ivf_flat", "ivf_pq"] = "auto"
    nlist: int | None = Field(default=None, ge=1)
    subquantizers: int = Field(default=24, ge=1)


class SearchParams(ProbingParams):
    """How an index is searched.

    `ivf_pq` scores the best `refine` · k candidates again with the stored vectors. The recall is
    measured with `recall_queries` queries.
    """

    refine: int = Field(default=8, ge=1)
    recall_queries: int = Field(default=256, ge=1)
