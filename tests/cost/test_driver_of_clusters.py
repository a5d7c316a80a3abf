"""What the driver of retrieve holds for each cluster is what the plan says."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curation.algorithms.kmeans import balance
from curation.algorithms.kmeans.backends import torch as backend
from curation.inspect.cost import claims
from curation.inspect.cost import clusters as work_of_clusters
from curation.inspect.cost.encoder_profiles import EncoderProfile
from curation.inspect.cost.rates import Assumptions
from curation.recipe import load_recipe
from curation.stages.retrieve.strategies import cluster, hierarchical
from curation.stages.retrieve.strategies.evidence import ArmCounts

from .test_cost import by_stage

AT_ONCE = 2_000


def traced(function: Callable[[], Any]) -> int:
    """The bytes of Python and numpy that a call holds at its largest."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def held(clusters: int, module: Any, **arm: Any) -> int:
    """The bytes of the counts and the plan of an arm."""
    name = module.__name__.rpartition(".")[2]
    model = module.StrategyArm(name="a", strategy=name, **arm)

    def plan() -> Any:
        rng = np.random.default_rng(0)
        sizes = rng.integers(0, 50, clusters)
        parents = tuple(
            rng.integers(0, above, below, dtype=np.int32)
            for below, above in ((clusters, clusters // 20), (clusters // 20, 40))
        )
        counts = ArmCounts(int(sizes.sum()), 0, 0, parents, sizes, sizes // 2)
        return counts, module.plan(model, counts, 0)

    return traced(plan)


@pytest.mark.parametrize(
    ("module", "arm"),
    [
        (hierarchical, {"seeds": None, "target": 100_000}),
        (hierarchical, {"seeds": None, "target": 100_000, "multiplier": 3}),
        (cluster, {"seeds": "s", "level": 0}),
        (cluster, {"seeds": "s", "level": 1}),
    ],
)
def test_bytes_of_a_cluster(
    module: Any, arm: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "CLUSTERS_AT_ONCE", AT_ONCE)
    growth = held(120_000, module, **arm) - held(20_000, module, **arm)
    planned = (claims.CLUSTER + claims.CLUSTER_OF_ARM) * 100_000
    assert growth <= planned <= 4 * growth


GIB = 2**30
TOO_LARGE = {"lvd142m": {}, "lvd1689m": {"cluster": 162, "neighbours": 38}, "vo743m": {}}
"""GiB of the driver of stages that do not fit 16 GiB; the recipe names them."""


@pytest.mark.parametrize("name", TOO_LARGE)
def test_stages_of_published_recipes_fit_a_driver_of_16_gib(root: Any, name: str) -> None:
    path = root / "conf" / "recipes" / f"{name}.yaml"
    recipe, dim = load_recipe(path), 1280 if name == "lvd142m" else 1024
    encoders = dict.fromkeys(recipe.embed.encoders, EncoderProfile(dim=dim, flop=1e9))
    works = by_stage(recipe, encoders, Assumptions(fetched=1, distinct=1, clean=1))
    assert all(work.driver > 0 for work in works.values() if work.rows)
    large = {name: round(w.driver / GIB) for name, w in works.items() if w.driver > 16 * GIB}
    assert large == TOO_LARGE[name]
    comment = path.read_text(encoding="utf-8")
    assert all(f"{gib} GiB" in comment for gib in large.values())


def test_the_plan_knows_the_bounds_of_the_back_end() -> None:
    """It has copies of these numbers, because the back end imports torch."""
    assert work_of_clusters.BOUNDS == backend.BOUND_BYTES
    assert work_of_clusters.MIN_GROUP == backend.MIN_GROUP
