"""Balance over arms: caps computed by hand, and properties of the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from curation.engine.exchange_runner import InMemory
from curation.errors import RecipeError
from curation.recipe import parse_recipe
from curation.stages.retrieve.balance import apply_balance
from curation.stages.retrieve.claims import CLAIMS, Arms, sorted_claims
from curation.stages.retrieve.limits import ClaimedParts, apply_limit
from curation.stages.retrieve.params import BalanceParams, RetrieveStep
from curation.stages.retrieve.strategies import as_is
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.retrieve.strategies.evidence import EligibleImages

from .one_arm import collect, images_of


def name(number: int) -> str:
    return f"{number:032x}"


def world(
    claims: list[tuple[str, str, int]],
    sources: dict[int, str] | None = None,
    clusters: dict[int, int] | None = None,
    hosts: dict[int, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return claims, given as (arm, seed set, image number), and the properties of their images."""
    table = pd.DataFrame(claims, columns=["arm", "seed_set", "image_id"])
    numbers = sorted(set(table["image_id"]))
    table["image_id"] = table["image_id"].map(name)
    images = pd.DataFrame(
        {
            "source": [(sources or {}).get(n, "web") for n in numbers],
            "cluster_id": [(clusters or {}).get(n) for n in numbers],
            "host": [(hosts or {}).get(n) for n in numbers],
        },
        index=[name(n) for n in numbers],
    )
    return table, images


def kept(claims: pd.DataFrame, images: pd.DataFrame, **params: Any) -> list[tuple[str, int]]:
    """Apply `balance` to claims in one part; return (arm, image number) of those that are left."""
    names = list(dict.fromkeys(claims["arm"]))
    sets = dict(zip(claims["arm"], claims["seed_set"], strict=True))
    models: list[Arm] = [as_is.StrategyArm(name=n, seeds=sets[n], strategy="as_is") for n in names]
    step = RetrieveStep(arms=models, balance=BalanceParams(**params), seed=0)
    priority = step.balance.priority
    places = [priority.index(n) if n in priority else len(priority) for n in names]
    fields = tuple(model.model_dump() for model in models)
    arms = Arms(fields, tuple(sorted(set(sets.values()))), tuple(places))
    count = len(claims)
    values: dict[str, Any] = dict.fromkeys(CLAIMS.names, [None] * count)
    values["image_id"] = claims["image_id"].tolist()
    values["arm"] = [names.index(n) for n in claims["arm"]]
    table = pa.table([pa.array(values[f.name], f.type) for f in CLAIMS], schema=CLAIMS)
    weights = images["source"].map(step.balance.weights).astype(float).fillna(1.0)
    parts = ClaimedParts(
        [
            images_of(
                [
                    EligibleImages(
                        images.index.to_numpy().astype("S32"),
                        np.empty(0, np.int32),
                        np.empty(0, np.float32),
                    )
                ],
                balance_cluster=[None if pd.isna(c) else int(c) for c in images["cluster_id"]],
                weight=weights.tolist(),
                host=[None if h is None else str(h) for h in images["host"]],
            )
        ],
        [collect(sorted_claims, claims=table, arms=arms)],
        arms,
    )
    left = apply_balance(
        parts, step, lambda parts, limit: apply_limit(parts, limit, InMemory(), 10**9)
    )
    rows = left.claims[0].read(["arm", "image_id"]).to_pylist()
    return sorted((names[row["arm"]], int(row["image_id"], 16)) for row in rows)


def test_without_limits_all_claims_are_kept() -> None:
    claims, images = world([("a", "s", 1), ("b", "t", 1), ("b", "t", 2)])
    assert kept(claims, images) == [("a", 1), ("b", 1), ("b", 2)]


def test_a_cap_on_a_seed_set_drops_only_claims_of_that_set() -> None:
    """One of three images of set s is kept; image 1 is kept for set t, which claims it too."""
    claims, images = world(
        [("a", "s", 1), ("a", "s", 2), ("c", "s", 3), ("b", "t", 1), ("b", "t", 4)]
    )
    got = kept(claims, images, per_seed_set={"s": 1}, priority=["c"])
    assert got == [("b", 1), ("b", 4), ("c", 3)]
    assert kept(claims, images, per_seed_set={"s": 0}) == [("b", 1), ("b", 4)]


def test_caps_on_cluster_and_host_follow_priority() -> None:
    claims, images = world(
        [("a", "s", 1), ("b", "t", 2), ("b", "t", 3), ("a", "s", 4), ("b", "t", 5)],
        clusters={1: 7, 2: 7, 3: 7, 4: 8},
        hosts={1: "x", 4: "x", 2: "y"},
    )
    assert kept(claims, images, per_cluster=1, priority=["a"]) == [("a", 1), ("a", 4), ("b", 5)]
    # Image 5 has neither cluster nor host, and image 3 has no host: these caps do not apply to them.
    got = kept(claims, images, per_host=1)
    assert [c for c in got if c[0] == "b"] == [("b", 2), ("b", 3), ("b", 5)]
    assert len(got) == 4
    # A cap of 0 keeps the images that it does not apply to.
    assert kept(claims, images, per_cluster=0) == [("b", 5)]
    assert kept(claims, images, per_host=0) == [("b", 3), ("b", 5)]
    # An image that two arms claim counts once.
    twice, images = world([("a", "s", 1), ("b", "t", 1), ("a", "s", 2)], clusters={1: 0, 2: 0})
    assert kept(twice, images, per_cluster=2) == [("a", 1), ("a", 2), ("b", 1)]


def test_the_target_fills_small_arms_first() -> None:
    """Of arms with 1, 3 and 20 different images, a target of 9 takes 1, 3 and 5."""
    claims, images = world(
        [("a", "s", 1)]
        + [("b", "s", n) for n in range(10, 13)]
        + [("c", "s", n) for n in range(20, 40)]
    )
    got = kept(claims, images, target=9)
    assert [sum(arm == name for arm, _ in got) for name in "abc"] == [1, 3, 5]
    assert len(kept(claims, images, target=100)) == 24
    assert kept(claims, images, target=0) == []


def test_an_image_of_two_arms_counts_once_for_the_target() -> None:
    both = [(arm, "s", n) for n in range(10) for arm in "ab"]
    claims, images = world(both + [("c", "s", n) for n in range(20, 30)])
    got = kept(claims, images, target=8, priority=["b"])
    assert len({image for _, image in got}) == 8
    # The ten images that a and b share count for b, which has priority, and c has ten others.
    assert [sum(arm == name for arm, _ in got) for name in "abc"] == [4, 4, 4]


def test_weights_change_only_the_chances_of_the_draw() -> None:
    numbers = range(2000)
    sources = {n: "heavy" if n % 2 else "light" for n in numbers}
    claims, images = world([("a", "s", n) for n in numbers], sources=sources)
    got = [n for _, n in kept(claims, images, target=300, weights={"heavy": 4.0})]
    assert len(got) == 300
    assert 0.7 < np.mean([n % 2 for n in got]) < 0.87
    unweighted = [n for _, n in kept(claims, images, target=300)]
    assert 0.4 < np.mean([n % 2 for n in unweighted]) < 0.6
    # The order of rows changes nothing.
    shuffled = claims.sample(frac=1, random_state=0)
    assert sorted(got) == [n for _, n in kept(shuffled, images, target=300, weights={"heavy": 4.0})]


@pytest.mark.parametrize(
    "limits",
    [
        {"per_cluster": 100, "target": 100},
        {"per_host": 100, "target": 100},
        {"per_cluster": 100, "per_host": 100},
        {"per_seed_set": {"s": 100}, "per_cluster": 100},
        {"per_seed_set": {"s": 100}, "per_host": 100},
    ],
)
def test_what_one_limit_left_over_has_no_better_chance_in_the_next(limits: dict[str, Any]) -> None:
    """100 images are what is left of 1,000, and compete with 100 others for 100 places."""
    many, few = range(1000), range(1000, 1100)
    last = list(limits)[-1]
    properties: dict[str, Any] = {}
    if "per_cluster" in limits:
        properties["clusters"] = dict.fromkeys(many if last != "per_cluster" else [*many, *few], 7)
    if "per_host" in limits:
        properties["hosts"] = dict.fromkeys(many if last != "per_host" else [*many, *few], "x")
    seed_sets = ("s", "t") if "per_seed_set" in limits else ("s", "s")
    arms = ("a", "b") if "per_seed_set" in limits else ("a", "a")
    groups = zip(arms, seed_sets, (many, few), strict=True)
    claims, images = world([(a, s, n) for a, s, group in groups for n in group], **properties)
    got = [n for _, n in kept(claims, images, **limits)]
    assert len(got) == 100
    assert 35 <= sum(n in many for n in got) <= 65


def test_unknown_names_are_refused() -> None:
    spec = {
        "name": "x",
        "sources": [
            {"name": "web", "role": "pool", "format": "folder", "path": "p"},
            {"name": "birds", "role": "seed", "format": "folder", "path": "s"},
        ],
        "retrieve": [{"name": "birds-4", "seeds": "birds", "strategy": "sample"}],
    }
    for balance, words in [
        ({"priority": ["bird-4"], "target": 1}, "did you mean 'birds-4'"),
        ({"per_seed_set": {"web": 3}}, "no source with role: seed 'web'"),
        ({"weights": {"wbe": 1}, "target": 1}, "did you mean 'web'"),
        ({"weights": {"web": 0}}, "greater than 0"),
        ({"level": 2, "per_cluster": 1}, "cluster.levels has 1"),
        ({"per_day": 3}, "unknown key"),
    ]:
        with pytest.raises(RecipeError, match=words):
            parse_recipe(spec | {"balance": balance})
