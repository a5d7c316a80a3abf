"""The retrieval strategies by name. Each chooses the images that an arm claims.

A new strategy is a module in this folder and one entry in `STRATEGIES`; see docs/extending.md. Recipes
are read where numpy may be missing, so a strategy imports it only inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from curation.engine.registry import Entry, Registry, display_text

GroupedBy: TypeAlias = Literal["seed", "cluster", "flat"]
"""By what contact sheets group the claims of an arm: the seed image, the cluster, or nothing."""


@dataclass(frozen=True)
class StrategyEntry(Entry):
    """Properties of a strategy for the report.

    Attributes:
        grouped_by: how its claims are grouped on contact sheets.
        requested: meaning of the count `requested` of the composition, in a few words.
    """

    grouped_by: GroupedBy = "flat"
    requested: str = display_text("what the arm's parameters ask for")


EVERYTHING = "everything"
"""The strategy, and the name of the arm, of recipes without `retrieve`."""

STRATEGIES = Registry(
    "strategy",
    "curation.stages.retrieve.strategies",
    {
        "as_is": StrategyEntry(requested="every row of the seed set"),
        "sample": StrategyEntry(
            version=2, grouped_by="seed", requested="k images for each eligible seed image"
        ),
        "cluster": StrategyEntry(
            grouped_by="cluster",
            requested="per_cluster images for each cluster with more than more_than seed images",
        ),
        "hierarchical": StrategyEntry(requested="the target of the arm"),
        EVERYTHING: StrategyEntry(requested="every eligible image of the pool"),
    },
    requires=("StrategyArm", "plan", "claim"),
)
