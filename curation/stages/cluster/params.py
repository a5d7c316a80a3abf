"""The block `cluster` of a recipe."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from curation.algorithms.kmeans.params import NearestParams
from curation.engine.params_base import StrictModel, execution_only
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class ResamplingParams(StrictModel):
    """How the levels above the first are evened out (Vo et al. 2024).

    See `curation/algorithms/kmeans/hierarchy.py`.

    `nearest` is a number a level above the first; by default the half of a cluster's mean size, which
    is what the paper takes.
    """

    rounds: int = Field(default=10, ge=1, le=100)
    nearest: list[Annotated[int, Field(ge=1)]] | None = None


class ClusterParams(NearestParams):
    """k-means of the eligible pool (LVD-142M: one level of 100,000 clusters, spherical).

    `levels` are numbers of clusters, the finest first. Where the training vectors take more than
    `memory_gib`, they stay in their files. Back ends give the same bits; that of torch is the faster
    one (benchmarks/results/cluster_knn.md).
    """

    encoder: str | None = None
    levels: list[Annotated[int, Field(ge=1)]] = Field(default=[64], min_length=1, max_length=8)
    start: Literal["random", "kmeans++"] = "random"
    iterations: int = Field(default=20, ge=1, le=1000)
    max_points_per_centroid: int = Field(default=256, ge=1)
    resampling: ResamplingParams = ResamplingParams()
    memory_gib: float = execution_only(4.0, ge=0)

    @model_validator(mode="after")
    def _levels_fall(self) -> ClusterParams:
        if any(fine <= coarse for fine, coarse in pairwise(self.levels)):
            raise ValueError(
                f"levels {self.levels}: the finest stands first, and each level has fewer clusters "
                "than the one before, as in levels: [10000, 1000, 100]"
            )
        given = self.resampling.nearest
        if given is not None and len(given) != len(self.levels) - 1:
            raise ValueError(
                f"resampling.nearest has {len(given)} numbers; it takes one for each level above "
                f"the first, here {len(self.levels) - 1}"
            )
        return self


class ClusterStep(ClusterParams):
    """What the stage gets."""

    encoder: str
    seed: int


STAGE = Stage(
    number=60,
    name="cluster",
    kind="global",
    params=ClusterStep,
    writes="centroids",
    reads=(Read("eligible"), Read(EMBEDDINGS)),
    version=3,
    gpu=True,
    members=lambda params: (params.encoder,),
)
