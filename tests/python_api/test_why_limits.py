"""`store.why` names the limit that left an image out, of the arms and of `select`, for every row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import curation
from curation.inspect.api.store import OpenStore
from curation.inspect.check.trial import Trial, _scores
from curation.inspect.why.arms import _left_out, _Limits
from curation.inspect.why.scores import _passes
from curation.stages.select.params import Threshold
from curation.stages.select.stage import _fails

from ..gc.helpers import run_recipe
from .limited import ARMS, limited_recipe


@pytest.fixture(scope="module", params=["limited", "balanced"])
def store(limited: Path, request: pytest.FixtureRequest) -> Iterator[OpenStore]:
    """The store as one of the recipes has it."""
    with curation.open(limited, recipe=request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(store: OpenStore) -> list[dict[str, Any]]:
    """What is said of every row that was not dropped by `ingest`."""
    pairs = store.table("pairs").pandas()
    named = pairs[pairs["status"] == "ok"]["pair_id"]
    return [row for pair_id in named for row in store.why(pair_id).rows[:1]]


def of_pool(row: dict[str, Any]) -> bool:
    return bool(row["role"] == "pool" and row["select"]["status"] == "eligible")


def test_as_many_images_are_claimed_or_capped_as_were_retrieved(
    store: OpenStore, rows: list[dict[str, Any]]
) -> None:
    composition = {row["arm"]: row for row in store.table("claims").stats["composition"]}
    for number, arm in enumerate(ARMS):
        limits = [
            (row["arms"][number]["claims"], row["arms"][number]["left_out"] or "")
            for row in rows
            if (row["source"] == "birds" if arm["strategy"] == "as_is" else of_pool(row))
        ]
        claimed = sum(bool(claims) for claims, _ in limits)
        capped = sum("claims of the arm out" in text for _, text in limits)
        unsure = sum(", or " in text for _, text in limits)
        totals = composition[arm["name"]]
        assert 0 <= claimed + capped - totals["unique"] <= unsure, arm
        assert bool(capped) <= bool(totals["capped"]), arm
        assert not unsure or (store.recipe, arm["name"]) == ("balanced", "reassign")


def test_a_limit_is_named_as_the_recipe_sets_it(
    store: OpenStore, rows: list[dict[str, Any]]
) -> None:
    texts = {arm["left_out"] or "" for row in rows for arm in row["arms"]}
    for arm in (arm for row in rows for arm in row["arms"]):
        named = (arm["left_out"] or "").partition("balance (")[2].partition(")")[0]
        # The cap of a seed set bounds its arms alone.
        expected = "per_seed_set, " * (arm["seed_set"] == "birds") + "per_cluster, target"
        assert named in ({"", expected} if store.recipe == "balanced" else {""})
    assert any("balance (" in text for text in texts) == (store.recipe == "balanced")
    assert any("its cap of 7" in text for text in texts)
    assert any("drawn of" in text for text in texts)


def test_rows_and_images_of_a_component_are_those_of_the_pool_or_of_one_set(
    store: OpenStore, rows: list[dict[str, Any]]
) -> None:
    copies = store.table("copies").pandas()
    for row in rows:
        shared = "role" if row["role"] == "pool" else "source"
        same = copies[copies["component_id"] == row["dedup"]["component_id"]]
        same = same[same[shared] == row[shared]]
        assert (row["dedup"]["rows"], row["dedup"]["images"]) == (
            len(same),
            same["image_id"].nunique(),
        )
        represented = same["representative_pair_id"] == row["pair_id"]
        assert row["dedup"]["stands_for"] == represented.sum()
    several = [row for row in rows if row["dedup"]["rows"] > 1]
    assert {row["role"] for row in several} == {"pool", "held_out"}


def test_every_copy_has_a_chain_to_the_row_that_stands_for_it(
    store: OpenStore, rows: list[dict[str, Any]]
) -> None:
    neighbours = {
        frozenset((pair["image_a"], pair["image_b"])): pair["similarity"]
        for pair in store.table("neighbours").arrow().to_pylist()
    }
    longest = 0
    for row in rows:
        at, end = row["image_id"], row["dedup"]["representative_id"]
        for edge in row["dedup"]["tied_by"]:
            ends = {edge["image_id"], edge["evidence_id"]}
            assert at in ends
            (at,) = ends - {at}
            assert edge["similarity"] == neighbours[frozenset(ends)] >= 0.985
        assert at == end, row["source_key"]
        longest = max(longest, len(row["dedup"]["tied_by"]))
    assert longest == 3


def test_what_the_dataset_lists_as_a_copy_is_in_it_by_the_row_that_lists_it(
    store: OpenStore, rows: list[dict[str, Any]]
) -> None:
    """Also where the copy itself fails a threshold."""
    listed = {
        copy["pair_id"]: row["pair_id"]
        for row in store.table("dataset").arrow().to_pylist()
        if row["role"] == "pool"
        for copy in row["copies"] or []
    }
    of_copies = [row for row in rows if row["pair_id"] in listed]
    assert "caption_letters" in {row["select"]["reason"] for row in of_copies}
    for row in of_copies:
        assert row["dataset"]["is_in"]
        assert row["dataset"]["pair_id"] == listed[row["pair_id"]]


def test_an_eligible_row_fails_no_threshold(rows: list[dict[str, Any]]) -> None:
    passes = [
        (score["passes"], row["select"])
        for row in rows
        for score in row["scores"]
        if score["name"] == "caption_letters"
    ]
    assert all(passed is not False for passed, select in passes if select["status"] == "eligible")
    assert all(passed is False for passed, s in passes if s["reason"] == "caption_letters")
    assert {select["reason"] for _, select in passes} >= {None, "caption_letters", "held_out"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("missing", ["drop", "keep"])
def test_a_score_passes_where_select_lets_it_pass(dtype: Any, missing: str) -> None:
    bounds = [0.1, 0.7, 1.6, 3.0, 2**24 + 1.0, 1e-9]
    values = [dtype(bound) for bound in bounds] + [dtype(-2), dtype(0)]
    values += [dtype("nan"), dtype("inf")] if dtype is not np.int32 else []
    series: pd.Series[Any] = pd.Series(np.array(values, dtype))
    kind = pa.from_numpy_dtype(dtype)
    for bound in bounds:
        for name in ("at_least", "at_most"):
            threshold = Threshold.model_validate({name: bound, "missing": missing})
            expected = (~_fails(series, threshold)).tolist()
            passes = [_passes(v.item(), kind, threshold.model_dump()) for v in values]
            assert passes == expected, (name, bound)
            sampled = {"score": _scores(pa.chunked_array([pa.array(values, kind)]))}
            assert Trial(scores=sampled).passing("score", threshold) == sum(expected)


@pytest.mark.parametrize(("capped", "ends"), [(0, "images"), (3, "images, or balance (target)")])
def test_a_strategy_of_a_plug_in_may_have_chosen_other_images(capped: int, ends: str) -> None:
    totals = {"mine": {"capped": capped, "retrieved": 9, "final": 9 - capped}}
    subject: Any = SimpleNamespace(reason=None, role="pool")
    limits = _Limits(seed=0, balance=("target",), capped_sets=frozenset(), totals=totals)
    reason = _left_out({"name": "mine", "strategy": "of_a_plug_in"}, subject, limits)
    assert reason.startswith(f"its strategy chose other {ends}")


def test_what_an_index_missed_is_not_said_to_be_far() -> None:
    subject: Any = SimpleNamespace(reason=None, role="pool", matches=[], tables={})
    limits = _Limits(seed=0, balance=(), capped_sets=frozenset(), totals={})
    arm = {"name": "near", "strategy": "sample", "seeds": "birds", "k": 4}
    assert _left_out(arm, subject, limits).startswith("`match` did not find it among the 4 nearest")


def test_a_row_that_repeats_another_has_the_answer_of_that_one(store: OpenStore) -> None:
    first, again = store.why("p3").rows[0], store.why("listed again").rows[0]
    assert again["ingest"]["reason"] == "duplicate_url"
    assert again["ingest"]["duplicate_of"] == first["pair_id"]
    assert again["dedup"] is None
    assert [again[n] for n in ("dataset", "arms")] == [first[n] for n in ("dataset", "arms")]
    assert "dataset" in str(store.why("listed again"))


def test_before_there_is_a_dataset_nothing_is_said_of_it(limited: Path, tmp_path: Path) -> None:
    spec = limited_recipe(tmp_path)
    run_recipe(spec, tmp_path / "store", until="retrieve")
    with curation.open(tmp_path / "store") as opened:
        answer = opened.why("p1")
        assert answer.rows[0]["dataset"] is None
        assert answer.rows[0]["arms"]
        assert "\ndataset" not in str(answer)


def test_a_claim_without_evidence_ends_with_its_arm(store: OpenStore) -> None:
    answer = store.why("p1")
    arm: dict[str, Any] = {"arm": "all", "strategy": "everything", "left_out": None, "claims": [{}]}
    lines = str(replace(answer, rows=[answer.rows[0] | {"arms": [arm]}])).splitlines()
    assert [line for line in lines if line.endswith("all (everything) claims it")]


def test_a_score_that_is_missing_says_what_that_means(store: OpenStore) -> None:
    text = str(store.why("listed again"))
    assert "\nscore" not in text.partition("pair")[2].partition("select")[0]
    answer = store.why("p1")
    (score,) = (s for s in answer.rows[0]["scores"] if s["name"] == "caption_letters")
    for missing, word in (("keep", "passes"), ("drop", "fails")):
        changed = {"value": None, "passes": missing == "keep"}
        row = answer.rows[0] | {
            "scores": [score | changed | {"threshold": score["threshold"] | {"missing": missing}}]
        }
        text = str(replace(answer, rows=[row]))
        assert f"caption_letters none: {word} (missing: {missing})" in text
