"""The block `balance` of a recipe; arms have models of their own in `strategies/`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializeAsAny, model_validator

from curation.engine.params_base import (
    Name,
    StrictModel,
    execution_only,
    refuse_without_effect,
)
from curation.engine.stage import Read, Stage
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm


class BalanceParams(StrictModel):
    """Caps over all arms, and a target for the whole dataset.

    Caps apply one after another: per seed set, cluster and host, then the target. Where one is
    exceeded, images are drawn without replacement, by priority and weight (Efraimidis and Spirakis
    2006), each time anew.
    """

    per_seed_set: dict[Name, Annotated[int, Field(ge=0)]] = {}
    """Largest number of images that the arms of a seed set claim together, by seed set."""
    per_cluster: int | None = Field(default=None, ge=0)
    """Largest number of images of one cluster in the dataset."""
    level: int = Field(default=0, ge=0, le=7)
    """Level of the clusters that `per_cluster` counts; 0 is the finest."""
    per_host: int | None = Field(default=None, ge=0)
    """Largest number of images from one host in the dataset."""
    weights: dict[Name, Annotated[float, Field(gt=0)]] = {}
    """Weight of each source in the draw; the chance of an image to stay grows with the weight of its
    source, and 1 is the default."""
    target: int | None = Field(default=None, ge=0)
    """Largest number of images in the dataset, shared out evenly over the arms."""
    priority: list[Name] = []
    """Arms in the order in which their images stay; images of all other arms come after them."""

    @model_validator(mode="after")
    def _fields_have_an_effect(self) -> BalanceParams:
        if self.per_cluster is None:
            fix = "Set per_cluster, or leave it out"
            refuse_without_effect(self, ["level"], "without per_cluster", fix)
        limits = (self.per_cluster, self.per_host, self.target)
        if not self.per_seed_set and all(limit is None for limit in limits):
            fix = "Set per_seed_set, per_cluster, per_host or target, or leave it out"
            names = ["weights", "priority"]
            refuse_without_effect(self, names, "without a cap or a target", fix)
        return self


class RetrieveStep(StrictModel):
    """What the stage retrieve gets."""

    arms: list[SerializeAsAny[Arm]]
    """The arms of the recipe, in its order."""
    balance: BalanceParams = BalanceParams()
    """Caps over all arms, and a target for the whole dataset."""
    seed: int
    """Seed of the recipe."""
    rows_at_once: int = execution_only(2_000_000, ge=1)
    """Largest number of eligible rows and matches that the driver decides alone, at about 1,250
    bytes each; more are decided on workers, with the same result."""


STAGE = Stage(
    number=80,
    name="retrieve",
    kind="global",
    params=RetrieveStep,
    writes="claims",
    reads=(
        Read("images"),
        Read("eligible"),
        Read("centroids"),
        Read("assignments"),
        Read("matches"),
    ),
    version=4,
    versions=lambda params: STRATEGIES.versions(arm.strategy for arm in params.arms),
)
