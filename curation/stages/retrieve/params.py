"""The block `balance` of a recipe; arms have models of their own in `strategies/`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializeAsAny

from curation.engine.params_base import Name, StrictModel
from curation.engine.stage import Read, Stage
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm


class BalanceParams(StrictModel):
    """Caps over all arms, and a target for the whole dataset; see `balance.py`.

    `per_seed_set` caps the images that a seed set brings; `per_cluster` (of `level`, 0 the finest) and
    `per_host` cap images of the dataset, whoever claims them. `priority` names arms whose images stay
    first; among others an image stays with a chance that grows with the weight of its source (1 where
    none is given).
    """

    per_seed_set: dict[Name, Annotated[int, Field(ge=0)]] = {}
    per_cluster: int | None = Field(default=None, ge=0)
    level: int = Field(default=0, ge=0, le=7)
    per_host: int | None = Field(default=None, ge=0)
    weights: dict[Name, Annotated[float, Field(gt=0)]] = {}
    target: int | None = Field(default=None, ge=0)
    priority: list[Name] = []


class RetrieveStep(StrictModel):
    """What the stage retrieve gets."""

    arms: list[SerializeAsAny[Arm]]
    balance: BalanceParams = BalanceParams()
    seed: int


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
    version=2,
    needs_seeds=True,
    versions=lambda params: STRATEGIES.versions(arm.strategy for arm in params.arms),
)
