"""The retrieval strategies by name: each says which images an arm claims, in a file of its own.

A new strategy is a file in this folder and a line in `STRATEGIES`. See docs/extending.md. The registry
holds names only: a recipe is read where numpy may be missing, so a strategy imports it in functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curation.engine.registry import Entry, Registry


@dataclass(frozen=True)
class StrategyEntry(Entry):
    """What the report needs to know of a strategy: what its claims are grouped by on contact sheets."""

    grouped_by: Literal["seed", "cluster", "flat"] = "flat"


STRATEGIES = Registry(
    "strategy",
    "curation.stages.retrieve.strategies",
    {
        "as_is": StrategyEntry(),
        "sample": StrategyEntry(grouped_by="seed"),
        "cluster": StrategyEntry(grouped_by="cluster"),
        "hierarchical": StrategyEntry(),
    },
    requires=("StrategyArm", "claim"),
)
