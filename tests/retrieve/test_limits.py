"""Limits of 0 and requests beyond what exists: the composition and a warning show both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.errors import RecipeError
from curation.flow import plan
from curation.inspect.composition import composition_of
from curation.recipe import parse_recipe
from curation.stages.retrieve.balance import describe_target
from curation.stages.retrieve.strategies import sample
from curation.stages.retrieve.strategies.evidence import ArmClaims, ArmPlan, Evidence
from curation.store.store import Store

from ..kmeans.data import names, planted
from ..tables import BY_SEMANTIC, commit, commit_vectors, run_step
from .test_hand_computed import FRAGMENTS, SPEC, STAGES_RUN, fill, row

EVERY = {"name": "every", "strategy": "hierarchical", "target": 6}


def run(store: Store, spec: dict[str, Any], *stages: str) -> None:
    steps = {s.name: s for s in plan(parse_recipe(spec))}
    for name in stages:
        run_step(steps[name], store, InProcess())


def retrieved(store: Store, spec: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], Table, Table]:
    """Run retrieve and assemble; return the composition by arm, the claims and the dataset."""
    run(store, spec, *STAGES_RUN)
    claims, dataset = open_table(store, "claims"), open_table(store, "dataset")
    rows, total = composition_of(claims.manifest)
    assert total == claims.rows == sum(dataset.read(["weight"])["weight"].to_pylist())
    return {r["arm"]: r for r in rows}, claims, dataset


@pytest.mark.parametrize(
    "balance",
    [{"target": 0}, {"per_cluster": 0}, {"per_seed_set": {"cats": 0, "dogs": 0}}],
)
def test_limits_of_0_drop_all_claims_and_count_them(
    tmp_path: Path, balance: dict[str, Any]
) -> None:
    store = Store(tmp_path)
    fill(store)
    unlimited, _, _ = retrieved(store, SPEC)
    accepted = {"expect": {"rows": {"at_least": 0}}}
    composition, _, dataset = retrieved(store, SPEC | {"balance": balance} | accepted)
    assert dataset.rows == 0
    assert "claims" in dataset.read().column_names
    for arm, counts in composition.items():
        assert (counts["final"], counts["capped"]) == (0, counts["retrieved"])
        assert counts["retrieved"] == unlimited[arm]["retrieved"]


def test_targets_beyond_what_exists_give_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Six pool images and one other seed image are eligible."""
    store = Store(tmp_path)
    fill(store)
    arms = [{"name": "cats", "seeds": "cats", "strategy": "as_is"}, EVERY | {"target": 99}]
    spec = SPEC | {"retrieve": arms, "balance": {"target": 40}}
    composition, claims, dataset = retrieved(store, spec)
    every = composition["every"]
    assert (every["requested"], every["available"], every["final"]) == (99, 6, 6)
    assert every["shortfall"] == 93
    assert dataset.rows == 7
    target = claims.manifest.stats["target"]
    assert target == {"requested": 40, "final": 7, "shortfall": 33}
    assert f"balance.target: {describe_target(target)}" in caplog.text
    assert "7 of 40 images wanted, 33 short" in caplog.text
    within = retrieved(store, SPEC | {"retrieve": arms, "balance": {"target": 5}})[1]
    assert within.manifest.stats["target"] == {"requested": 5, "final": 5, "shortfall": 0}


def test_seeds_that_match_no_cluster_give_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    fill(store)
    arm = {"name": "cells", "seeds": "dogs", "strategy": "cluster", "more_than": 2}
    composition, _, _ = retrieved(store, SPEC | {"retrieve": [arm, EVERY]})
    names = ("seed_images", "requested", "available", "retrieved", "final", "shortfall")
    assert [composition["cells"][n] for n in names] == [5, 0, 0, 0, 0, 0]
    assert "arm 'cells' finds nothing: 5 rows in its seed set, 5 of them eligible" in caplog.text
    assert "'every'" not in caplog.text


def test_a_seed_set_without_an_eligible_image_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    fill(store)
    dropped = {
        name: [row(n, s, "dropped" if s == "cats" else status, c) for n, s, status, c in part]
        for name, part in FRAGMENTS.items()
    }
    commit(store, "eligible", dropped)
    commit(store, "matches", {"all": []})
    arms = [
        {"name": name, "seeds": "cats", "strategy": name} for name in ("as_is", "sample", "cluster")
    ]
    accepted = {"expect": {"rows": {"at_least": 0}}}
    composition, _, dataset = retrieved(store, SPEC | {"retrieve": arms} | accepted)
    assert dataset.rows == 0
    assert composition["as_is"]["shortfall"] == composition["as_is"]["requested"] == 3
    for name in ("as_is", "sample", "cluster"):
        assert (composition[name]["seed_rows"], composition[name]["seed_images"]) == (3, 0)
        assert (
            f"arm '{name}' finds nothing: 3 rows in its seed set, 0 of them eligible" in caplog.text
        )


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"strategy": "sample", "k": 0}, "greater than or equal to 1"),
        ({"strategy": "cluster", "per_cluster": 0}, "greater than or equal to 1"),
        ({"strategy": "cluster", "cap": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_parameters_of_arms_are_refused(arm: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=rf"retrieve\.a.*{words}"):
        parse_recipe(SPEC | {"retrieve": [{"name": "a", "seeds": "cats"} | arm]})


def test_an_arm_gets_only_the_matches_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy may use all matches that it gets; another arm of the seed set needs more of them."""
    ranks, claim = {}, sample.claim

    def noted(arm: Any, evidence: Evidence, plan: ArmPlan, seed: int) -> ArmClaims:
        ranks[arm.name] = evidence.matches.rank.max()
        return claim(arm, evidence, plan, seed)

    monkeypatch.setattr(sample, "claim", noted)
    store = Store(tmp_path)
    fill(store)
    arms = [{"name": f"cats-{k}", "seeds": "cats", "strategy": "sample", "k": k} for k in (1, 2)]
    run(store, SPEC | {"retrieve": arms}, "retrieve")
    assert ranks == {"cats-1": 1, "cats-2": 2}


# -- neighbours -----------------------------------------------------------------------------------

SOURCES = [
    {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
    {"name": "seeds", "role": "seed", "format": "folder", "path": "s"},
]
ARM = {"name": "a", "seeds": "seeds", "strategy": "sample", "k": 1000}


@pytest.mark.parametrize(
    ("pool", "seeds"), [((5, 3), 4), ((5, 3), 1), ((1,), 1), ((5, 3), 0), ((0,), 2)]
)
def test_more_neighbours_than_the_pool_has_images(
    tmp_path: Path, pool: tuple[int, ...], seeds: int
) -> None:
    rng = np.random.default_rng(0)
    sizes = {f"web-{n}": size for n, size in enumerate(pool)} | {"seeds-0": seeds}
    parts = {name: (names(rng, size), planted(rng, size, 8, 2)[0]) for name, size in sizes.items()}
    store = Store(tmp_path)
    commit_vectors(store, parts)
    run(
        store,
        {"name": "k", "sources": SOURCES, "dedup": BY_SEMANTIC, "retrieve": [ARM]},
        "neighbours",
        "quantise",
        "index",
        "match",
    )
    rows = open_table(store, "matches").read().to_pandas()
    assert len(rows) == seeds * sum(pool)
    for _, of_seed in rows.groupby("seed_image_id"):
        assert sorted(of_seed["rank"]) == list(range(1, sum(pool) + 1))
