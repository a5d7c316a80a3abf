"""The block `cluster` of a recipe."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from curation.algorithms.kmeans.params import AssignParams
from curation.engine.params_base import StrictModel, execution_only, refuse_without_effect
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS


class ResamplingParams(StrictModel):
    """Resampling of the levels above the first (Vo et al. 2024).

    See `curation/algorithms/kmeans/hierarchy.py`.
    """

    rounds: int = Field(default=10, ge=1, le=100)
    """Number of k-means runs per level; 1 is k-means without resampling."""
    nearest: list[Annotated[int, Field(ge=1)]] | None = None
    """For each level above the first, how many points nearest to each centroid the next run trains on;
    null takes half the mean cluster size, as the paper does."""

    @model_validator(mode="after")
    def _nearest_has_an_effect(self) -> ResamplingParams:
        if self.rounds == 1:
            fix = "Set more rounds, or leave it out"
            refuse_without_effect(self, ["nearest"], "with rounds: 1", fix)
        return self


class DriftParams(StrictModel):
    """How far the pool may drift from the rows that the centroids were trained on.

    Both are measured on a sample of about 16,000 images at least.
    """

    changed: float = Field(default=0.25, ge=0, le=1)
    """Largest share of images added or removed since the training, of all images then and now."""
    similarity: float = Field(default=0.02, ge=0, le=2)
    """How far the mean cosine similarity of added images to their centroid may lie below that of the
    images of the training."""


class ClusterParams(AssignParams):
    """k-means of the eligible pool (LVD-142M: one level of 100,000 clusters, spherical)."""

    encoder: str | None = None
    """Name of the encoder under `embed.encoders` whose vectors are clustered. It may be left out where
    only one encoder embeds images, and with the default encoders, of which `semantic` is taken."""
    levels: list[Annotated[int, Field(ge=1)]] = Field(default=[64], min_length=1, max_length=8)
    """Number of clusters of each level, the finest level (level 0) first, each larger than the next. If
    so few vectors differ that a level would not be smaller than level 0, it repeats level 0."""
    splits: int = Field(default=1, ge=1)
    """Disjoint seeded parts of the training sample, each of which is trained into its share of the
    clusters of the finest level, on one device (Vo et al. 2024 train 10 million clusters in 100). Work
    and memory fall by this factor; clusters of different splits may overlap, and the levels above join
    them."""
    start: Literal["random", "kmeans++"] = "random"
    """How the first centroids are drawn: `random`, or `kmeans++` (Arthur and Vassilvitskii 2007), which
    chooses among a seeded sample of 16 training vectors per cluster."""
    iterations: int = Field(default=20, ge=1, le=1000)
    """Largest number of updates of the centroids; training stops earlier if no centroid moves."""
    max_points_per_centroid: int = Field(default=256, ge=1)
    """Size of the training sample in vectors per centroid of the finest level."""
    resampling: ResamplingParams = ResamplingParams()
    """Resampling of the levels above the first."""
    retrain: Literal["always", "on_drift", "never"] = "always"
    """When rows came or went, whether the centroids of the last run are trained again: `always`;
    `on_drift`, if the pool has drifted further than `drift` allows; or `never`. Where they are kept,
    only new rows are assigned to clusters, and the dataset depends on the history of the store."""
    drift: DriftParams = DriftParams()
    """With `retrain: on_drift`, how far the pool may drift."""
    memory_gib: float = execution_only(4.0, ge=0)
    """Memory on the driver for the training vectors, in GiB; a larger sample is read from files on
    workers in each iteration."""

    @model_validator(mode="after")
    def _levels_fall(self) -> ClusterParams:
        if any(fine <= coarse for fine, coarse in pairwise(self.levels)):
            raise ValueError(
                f"levels {self.levels}: the finest stands first, and each level has fewer clusters "
                "than the one before, as in levels: [10000, 1000, 100]"
            )
        if self.splits > self.levels[0]:
            raise ValueError(
                f"splits: {self.splits} parts of {self.levels[0]} clusters; each needs one at least"
            )
        given = self.resampling.nearest
        if given is not None and len(given) != len(self.levels) - 1:
            raise ValueError(
                f"resampling.nearest has {len(given)} numbers; it takes one for each level above "
                f"the first, here {len(self.levels) - 1}"
            )
        return self

    @model_validator(mode="after")
    def _resampling_has_an_effect(self) -> ClusterParams:
        if len(self.levels) == 1:
            fix = "Add a level, or leave it out"
            refuse_without_effect(self, ["resampling"], "with one level", fix)
        return self

    @model_validator(mode="after")
    def _drift_has_an_effect(self) -> ClusterParams:
        if self.retrain != "on_drift":
            fix = "Set retrain: on_drift, or leave it out"
            refuse_without_effect(self, ["drift"], f"with retrain: {self.retrain}", fix)
        return self


class ClusterStep(ClusterParams):
    """What the stage gets."""

    encoder: str
    """Name of the encoder whose vectors are clustered."""
    seed: int
    """Seed of the recipe."""


STAGE = Stage(
    number=60,
    name="cluster",
    kind="global",
    params=ClusterStep,
    writes="centroids",
    reads=(Read("eligible"), Read(EMBEDDINGS)),
    version=5,
    gpu=True,
    members=lambda params: (params.encoder,),
)
