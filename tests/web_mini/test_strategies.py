"""The figures of `benchmarks.strategies`, reckoned by hand on a few images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.strategies import Truth, evenness, spread


@pytest.fixture(scope="module")
def truth() -> Truth:
    pool = pd.DataFrame(
        {
            "domain": ["flowers"] * 5 + ["scenes"],
            "label": ["rose", "rose", "rose", "tulip", "orchid", "sea"],
        },
        index=["r1", "r2", "r3", "t1", "o1", "s1"],
    )
    seeds = pd.DataFrame(
        {"domain": "flowers", "label": ["rose", "tulip", "daisy"], "seed_set": "flowers"},
        index=["rose", "tulip", "daisy"],
    )
    return Truth(pool, seeds)


def claims(
    images: list[str], seeds: list[str] | None = None, strategy: str = "sample"
) -> pd.DataFrame:
    return pd.DataFrame({"strategy": strategy, "image_id": images, "seed_image_id": seeds})


def test_scores_of_a_sample(truth: Truth) -> None:
    images = ["r1", "r1", "t1", "o1", "s1", "r2"]
    score = truth.score(
        claims(images, ["rose", "tulip", "tulip", "tulip", "daisy", "rose"]), "flowers"
    )
    # Wanted are roses and tulips; nobody asked for orchids, and the pool has no daisies.
    thirds = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(3)
    expected = {
        "claims": 6,
        "images": 5,
        "domain": 5 / 6,
        "label": 4 / 6,
        "own label": 3 / 6,
        "labels reached": 2 / 3,
        "images reached": 3 / 4,
        "balance": thirds,
    }
    assert score == pytest.approx(expected)


def test_own_label_needs_seeds(truth: Truth) -> None:
    score = truth.score(claims(["r1", "s1"], strategy="cluster"), "flowers")
    assert np.isnan(score["own label"])
    assert score["label"] == 0.5


def test_seeds_as_they_are_reach_nothing_of_the_pool(truth: Truth) -> None:
    labels = ["rose", "tulip", "daisy"]
    score = truth.score(claims(labels, labels, "as_is"), "flowers")
    assert score["label"] == score["own label"] == score["labels reached"] == 1
    assert score["images reached"] == 0
    assert score["balance"] == pytest.approx(1)


def test_evenness_is_one_for_equal_shares() -> None:
    assert evenness(pd.Series(["a", "b", "a", "b"]), 2) == pytest.approx(1)
    assert evenness(pd.Series(["a", "b"]), 4) == pytest.approx(0.5)
    assert evenness(pd.Series(["a"]), 2) == 0


def test_spread_is_relative_to_the_pool(truth: Truth) -> None:
    counts = spread(truth.pool.loc[["r1", "s1"]], truth.pool)
    expected = {
        "images": 2,
        "over domains": 1,
        # Two of roses, tulips, orchids and the sea.
        "over classes": 0.5,
        "classes": 2,
        "flowers": 0.5,
        "scenes": 0.5,
    }
    assert counts == pytest.approx(expected)
