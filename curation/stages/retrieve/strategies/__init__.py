"""The retrieval strategies by name: each says which images an arm claims, in a file of its own.

A new strategy is a file in this folder and a line in `STRATEGIES`. See docs/extending.md. The registry
holds names only: a recipe is read where numpy may be missing, so a strategy imports it in functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curation.engine.registry import Entry, Registry, display_text


@dataclass(frozen=True)
class StrategyEntry(Entry):
    """What the report needs to know of a strategy.

    Attributes:
        grouped_by: what its claims are grouped by on contact sheets.
        requested: what the count `requested` of the composition means for it, in a few plain words.
    """

    grouped_by: Literal["seed", "cluster", "flat"] = "flat"
    requested: str = display_text("what the arm's parameters ask for")


STRATEGIES = Registry(
    "strategy",
    "curation.stages.retrieve.strategies",
    {
        "as_is": StrategyEntry(requested="every row of the seed set"),
        "sample": StrategyEntry(
            grouped_by="seed", requested="k images for each eligible seed image"
        ),
        "cluster": StrategyEntry(
            grouped_by="cluster",
            requested="per_cluster images for each cluster with more than more_than seed images",
        ),
        "hierarchical": StrategyEntry(requested="the target of the arm"),
    },
    requires=("StrategyArm", "claim"),
)
