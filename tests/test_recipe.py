"""A bad recipe fails before any work, and its message names the place, the valid and the fix."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.explain import explain
from curation.engine.params_base import annotations_in
from curation.errors import RecipeError
from curation.recipe import Recipe, load_recipe, parse_recipe
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.select.params import SCORE_TABLES

from .test_flow import SPEC

ARM: dict[str, Any] = SPEC["retrieve"][0]
SOURCE: dict[str, Any] = SPEC["sources"][0]
HELD_OUT = {"name": "bench", "role": "held_out", "format": "folder", "path": "b"}


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"fech": {}}, ["'fech'", "did you mean 'fetch'", "Valid:"]),
        ({"fetch": {"timeout": 3}}, ["fetch.timeout: unknown key 'timeout'", "timeout_s"]),
        ({"seed": "x"}, ["seed", "integer", "'x'"]),
        ({"seed": -1}, ["seed", "greater than or equal to 0"]),
        ({"name": None}, ["'name' is missing"]),
        ({"name": "Not A Name"}, ["name", "pattern"]),
        ({"sources": []}, ["sources", "at least 1"]),
        ({"sources": [SPEC["sources"][1]]}, ["role: pool"]),
        ({"sources": [SOURCE | {"role": "pol"}]}, ["sources.0.role", "'pool'", "'pol'"]),
        ({"sources": [SOURCE | {"columns": {"caption": "T"}}]}, ["url, image, path"]),
        ({"sources": [SOURCE, SOURCE]}, ["source name 'web'", "more than once"]),
        (
            {"retrieve": [ARM | {"strategy": "smple"}]},
            ["'smple'", "did you mean 'sample'", "as_is"],
        ),
        ({"retrieve": [ARM | {"kk": 3}]}, ["retrieve.a.kk", "'kk'", "collisions"]),
        ({"retrieve": [ARM | {"seeds": "cars"}]}, ["'cars'", "Valid: flowers"]),
        ({"retrieve": [ARM | {"k": 0}]}, ["k", "greater than or equal to 1"]),
        ({"screen": {"filters": ["sharp"]}}, ["'sharp'", "entropy"]),
        ({"select": {"sharp": {"at_least": 1}}}, ["select.sharp", "Valid:"]),
        ({"select": {"aspect": {}}}, ["at_least, at_most"]),
        ({"select": {"aspect": {"one_of": ["a"]}}}, ["select.aspect: wants at_least or at_most"]),
        (
            {
                "screen": {"filters": ["caption_language"]},
                "select": {"caption_language": {"at_least": 1}},
            },
            ["select.caption_language: wants one_of"],
        ),
        (
            {"select": {"aspect": {"one_of": ["a"], "at_least": 1}}},
            ["one_of is for scores of text"],
        ),
        ({"screen": {"words": {"bad": {}}}}, ["screen.words.bad.file"]),
        ({"select": {"aspect": {"at_least": 3, "at_most": 2}}}, ["above at_most"]),
        ({"embed": {"encoders": {"s": {"model": "resnet"}}}}, ["'resnet'", "vit_micro", "timm/"]),
        ({"cluster": {"encoder": "other"}}, ["cluster.encoder", "Valid: semantic"]),
        ({"cluster": {"levels": [0]}}, ["cluster.levels.0"]),
        ({"dedup": {"near": {"at_least": 0.2}}}, ["under floor"]),
        ({"dedup": {"near": {"at_least": 0.6}}}, ["under verify.floor"]),
        (
            {"sources": [*SPEC["sources"], HELD_OUT], "dedup": {"held_out": {"at_least": 0.6}}},
            ["at_least 0.6 for 'bench'", "under dedup.verify.floor"],
        ),
        (
            {"dedup": {"held_out": {"sets": {"bench": {"at_least": 0.9}}}}},
            ["no source 'bench' with role: held_out"],
        ),
        ({"dedup": {"perceptual": {"max_distance": 60}}}, ["less than or equal to 47"]),
        ({"dedup": {"semantic": {"epsilon": 0.7}}}, ["under floor"]),
        ({"dedup": {"representative": ["pixels", "pixels"]}}, ["more than once"]),
        ({"dedup": {"near": {"encoder": "sscd"}}}, ["no encoder 'sscd'", "Valid: semantic, copy"]),
        ({"dedup": {"near": {"at_least": 1.2}}}, ["less than or equal to 1"]),
        (
            {"score": {"heads": {"h": {"encoder": "semantic", "weights": "w", "kind": "svm"}}}},
            ["linear"],
        ),
        ({"ingest": {"blocked_patterns": ["("]}}, ["not a regular expression"]),
        ({"screen": {"perceptual_hash": False}}, ["dedup.perceptual", "perceptual_hash is false"]),
        ({"fetch": {"resize": {"mode": "no", "size": 64}}}, ["fetch.resize", "no effect"]),
        ({"fetch": {"faces": {"at_least": 0.9}}}, ["fetch.faces", "no effect without a detector"]),
        ({"balance": {"level": 1}}, ["balance", "no effect without per_cluster"]),
        ({"cluster": {"resampling": {"rounds": 2}}}, ["cluster", "no effect with one level"]),
        (
            {"dedup": {"near": None, "held_out": {"at_least": 0.9}}},
            ["held_out.at_least", "`near`, which is null"],
        ),
        (
            {"dedup": {"near": None, "held_out": {"sets": {"bench": {"at_least": 0.9}}}}},
            ["held_out.at_least", "`near`, which is null"],
        ),
        (
            {"dedup": {"near": None, "perceptual": None, "verify": {"k": 3}}},
            ["verify compares pairs", "both null"],
        ),
    ],
)
def test_message_names_place_and_fix(blocks: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe({k: v for k, v in (SPEC | blocks).items() if k != "name" or v})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["pair_id", "phash", "method", "contaminated", "held_out", "eligible", "copy_x", "vector_x"],
)
def test_a_score_has_no_name_that_stands_for_something_else(name: str) -> None:
    """A head `pair_id` ended the run in `score`, and `contaminated` counted with the copies."""
    head = {"kind": "linear", "encoder": "semantic", "weights": "head.safetensors"}
    with pytest.raises(RecipeError, match=rf"score\.heads\.{name}: '{name}' cannot be the name"):
        parse_recipe(SPEC | {"score": {"heads": {name: head}}})


SCORES = parse_recipe(SPEC).scores
TAKEN = [(name, table) for table, names in SCORES.items() for name in names]


@pytest.mark.parametrize(("name", "table"), TAKEN)
def test_no_head_shadows_another_score(name: str, table: str) -> None:
    head = {"kind": "linear", "encoder": "semantic", "weights": "head.safetensors"}
    both = " and ".join(key for key in SCORE_TABLES if key in (table, "head_scores"))
    with pytest.raises(RecipeError, match=f"'{name}' is defined more than once, .*{both}"):
        parse_recipe(SPEC | {"score": {"heads": {name: head}}})


def test_thresholds_reach_every_table_of_scores() -> None:
    assert list(SCORES) == list(SCORE_TABLES)


SAMPLE = {"name": "near", "seeds": "seed", "strategy": "sample"}
PROMPTS = {"kind": "zero_shot", "encoder": "semantic", "prompts": ["a bird"], "scale": 50}


@pytest.mark.parametrize(
    ("blocks", "where", "reason", "mended"),
    [
        *(
            ({"match": {"index": "exact", name: 7}}, f"match.{name}", "index: exact", mended)
            for name, mended in [
                ("nlist", {"match": {"index": "ivf_flat", "nlist": 7}}),
                ("nprobe", {"match": {"nprobe": 7}}),
                ("recall_queries", {"match": {"recall_queries": 7}}),
            ]
        ),
        *(
            (
                {"match": {name: 7}},
                f"match.{name}",
                "index: auto",
                {"match": {"index": "ivf_pq", name: 7}},
            )
            for name in ("subquantizers", "refine")
        ),
        *(
            (
                {"dedup": {level: {"join": "exact", name: 7}}},
                f"dedup.{level}.{name}",
                "join: exact",
                {"dedup": {level: {"join": "cells", name: 7}}},
            )
            for level in ("near", "semantic")
            for name in ("spread", "recall_queries")
        ),
        (
            {"retrieve": [SAMPLE | {"collisions": "once", "candidates": 7}]},
            "retrieve.near.candidates",
            "collisions: once",
            {"retrieve": [SAMPLE | {"collisions": "reassign", "candidates": 7}]},
        ),
        (
            {"balance": {"weights": {"web": 7}}},
            "balance.weights",
            "without a cap or a target",
            {"balance": {"weights": {"web": 7}, "per_host": 1}},
        ),
        (
            {"retrieve": [SAMPLE], "balance": {"priority": ["near"]}},
            "balance.priority",
            "without a cap or a target",
            {"retrieve": [SAMPLE], "balance": {"priority": ["near"], "per_seed_set": {"seed": 0}}},
        ),
        (
            {"balance": {"per_seed_set": {"seed": 7}}},
            "balance.per_seed_set.seed",
            "no arm starts from 'seed'",
            {"retrieve": [SAMPLE], "balance": {"per_seed_set": {"seed": 7}}},
        ),
        (
            {"retrieve": [SAMPLE], "balance": {"weights": {"seed": 7}, "target": 1}},
            "balance.weights.seed",
            "no arm claims images of 'seed'",
            {
                "retrieve": [SAMPLE, {"name": "all", "seeds": "seed", "strategy": "as_is"}],
                "balance": {"weights": {"seed": 7}, "target": 1},
            },
        ),
        (
            {"cluster": {"levels": [9, 3], "resampling": {"rounds": 1, "nearest": [2]}}},
            "cluster.resampling.nearest",
            "rounds: 1",
            {"cluster": {"levels": [9, 3], "resampling": {"rounds": 2, "nearest": [2]}}},
        ),
        (
            {"score": {"heads": {"birds": PROMPTS}}},
            "score.heads.birds.scale",
            "without `against`",
            None,
        ),
    ],
)
def test_a_setting_that_decides_nothing_is_refused(
    blocks: dict[str, Any], where: str, reason: str, mended: dict[str, Any] | None
) -> None:
    seed = {"name": "seed", "role": "seed", "format": "folder", "path": "s"}
    spec = SPEC | {"sources": [*SPEC["sources"], seed]}
    with pytest.raises(RecipeError) as error:
        parse_recipe(spec | blocks)
    (detail,) = error.value.details
    assert detail.where == f"recipe: {where}"
    assert reason in detail.message
    assert detail.fix
    if mended is not None:
        parse_recipe(spec | mended)


@pytest.mark.parametrize(
    ("dedup", "where", "role"),
    [
        ({"held_out": {"at_least": 0.8}}, "dedup.held_out", "held_out"),
        ({"held_out": {"whole_component": False}}, "dedup.held_out", "held_out"),
        ({"seed_copies": "drop"}, "dedup.seed_copies", "seed"),
    ],
)
def test_a_rule_on_images_that_no_source_gives_is_refused(
    dedup: dict[str, Any], where: str, role: str
) -> None:
    copy_encoder = {"copy": {"model": "copy_micro"}, "semantic": {"model": "vit_micro"}}
    encoders = {"embed": {"encoders": copy_encoder}, "cluster": {"encoder": "semantic"}}
    spec = {"name": "x", "sources": [SOURCE], **encoders}
    with pytest.raises(RecipeError) as error:
        parse_recipe(spec | {"dedup": dedup})
    (detail,) = error.value.details
    assert detail.where == f"recipe: {where}" and detail.fix
    assert f"no source has role: {role}" in detail.message
    other = {"name": "other", "role": role, "format": "folder", "path": "o"}
    parse_recipe(spec | {"dedup": dedup, "sources": [SOURCE, other]})
    parse_recipe(spec | {"dedup": {"held_out": None}})


def fields_of(model: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[Field]:
    """Yield each field of a model and of the models in it: its place, and what it may hold."""
    for name, field in model.model_fields.items():
        kinds = list(annotations_in(field.annotation))
        here = (*place, field.alias or name)
        models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if list in kinds or any(get_origin(kind) in (dict, list, tuple) for kind in kinds):
            continue
        if models:
            yield from fields_of(models[0], here)
        else:
            yield here, kinds


Field = tuple[tuple[str, ...], list[Any]]
FIELDS = list(fields_of(Recipe))
NUMBERS = [place for place, kinds in FIELDS if {int, float} & set(kinds)]
INTEGERS = [place for place, kinds in FIELDS if int in kinds and float not in kinds]
NOT_BOOLEAN = [place for place, kinds in FIELDS if bool not in kinds]


def spec_with(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The recipe of these tests with a value at some place."""
    first, *below = place
    for key in reversed(below):
        value = {key: value}
    return SPEC | {first: value}


@given(st.sampled_from(NUMBERS), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_no_finite_number_is_refused_wherever_it_stands(
    place: tuple[str, ...], value: float
) -> None:
    with pytest.raises(RecipeError, match=re.escape(".".join(place))):
        parse_recipe(spec_with(place, value))


@pytest.mark.parametrize("value", [2**63, -(2**63), 1e30])
@pytest.mark.parametrize("place", INTEGERS, ids=".".join)
def test_an_integer_that_no_array_holds_is_refused_wherever_it_stands(
    place: tuple[str, ...], value: float
) -> None:
    with pytest.raises(RecipeError, match=re.escape(".".join(place))):
        parse_recipe(spec_with(place, value))


@given(st.sampled_from(NOT_BOOLEAN), st.booleans())
def test_true_and_false_are_no_number_and_no_text(place: tuple[str, ...], value: bool) -> None:
    with pytest.raises(RecipeError, match=re.escape(".".join(place))):
        parse_recipe(spec_with(place, value))


@pytest.mark.parametrize(
    ("blocks", "place"),
    [
        ({"cluster": {"levels": [True]}}, "cluster.levels"),
        ({"fetch": {"fail_over": {"timeout": True}}}, "fetch.fail_over"),
        ({"fetch": {"ports": [True]}}, "fetch.ports"),
        ({"select": {"aspect": {"at_most": True}}}, "select.aspect.at_most"),
        ({"select": {"aspect": {"at_most": math.nan}}}, "select.aspect.at_most"),
        ({"retrieve": [ARM | {"k": True}]}, "k"),
        ({"balance": {"weights": {"web": math.inf}}}, "balance.weights"),
        ({"balance": {"per_seed_set": {"flowers": 2**63}}}, "balance.per_seed_set"),
        ({"cluster": {"levels": [2**64, 2]}}, "cluster.levels"),
        ({"retrieve": [ARM | {"cap": 2**64}]}, "cap"),
        ({"dedup": {"near": False}}, "dedup.near"),
    ],
)
def test_values_in_lists_and_mappings_are_checked_too(blocks: dict[str, Any], place: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(place)):
        parse_recipe(SPEC | blocks)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS | st.dates(),
    # YAML has keys of every kind.
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(SCALARS, inner, max_size=2),
    max_leaves=4,
)
FULL: dict[str, Any] = SPEC | {
    "sources": [*SPEC["sources"], HELD_OUT],
    "fetch": {"resize": {"mode": "no"}, "faces": {"detector": "haar"}, "fail_over": {"all": 0.1}},
    "screen": {"filters": ["aspect"], "words": {"bad": {"file": "words.txt"}}},
    "select": {"aspect": {"at_most": 3}, "words_bad": {"at_most": 0}},
    "score": {"heads": {"h": {"encoder": "semantic", "weights": "w", "kind": "linear"}}},
    "balance": {"weights": {"web": 2}, "priority": [], "target": 5},
    "expect": {"rows": {"at_least": 1}, "arms": {}},
    "plugins": [],
}


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of everything in a recipe."""
    if not isinstance(value, dict | list):
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*place, key)
        yield from places_in(item, (*place, key))


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from(list(places_in(FULL))), value=VALUES, key=st.none() | SCALARS)
def test_any_value_at_any_place_is_valid_or_one_error(
    place: tuple[Any, ...], value: Any, key: Any
) -> None:
    spec = copy.deepcopy(FULL)
    around: Any = spec
    for step in place[:-1]:
        around = around[step]
    around[place[-1]] = value
    if isinstance(around, dict) and key is not None:
        around[key] = value
    with suppress(RecipeError):
        parse_recipe(spec)


def mappings_of(kind: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, type]]:
    """Yield the place of each model that a recipe may hold, also within lists and mappings."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield place, kind
        for name, field in kind.model_fields.items():
            yield from mappings_of(field.annotation, (*place, field.alias or name))
        return
    step = {dict: ("x",), list: (0,)}.get(get_origin(kind), ())
    for part in get_args(kind):
        yield from mappings_of(part, (*place, *step))


# The strategy of an arm chooses its model.
@pytest.mark.parametrize(
    ("place", "model"), [each for each in mappings_of(Recipe) if each[1] is not Arm]
)
def test_an_unknown_key_is_shown_the_valid_ones_wherever_it_stands(
    place: tuple[str | int, ...], model: type[BaseModel]
) -> None:
    value: Any = {"zzz": 1}
    for step in reversed(place):
        value = [value] if step == 0 else {step: value}
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(value)
    (detail,) = (d for d in explain(caught.value, Recipe) if d.where.endswith("zzz"))
    assert {field.alias or name for name, field in model.model_fields.items()} <= {*detail.valid}


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe(SPEC | {"fech": 1, "seed": "x"})
    assert "fech" in str(error.value)
    assert "seed" in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2]", "name: [", "", "\x00"])
def test_what_is_no_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=re.escape(str(path))):
        load_recipe(path)


def test_missing_recipe_file() -> None:
    with pytest.raises(RecipeError, match="Cannot read"):
        load_recipe("no/such.yaml")


def test_quickstart_recipe_is_valid(root: Path) -> None:
    load_recipe(root / "conf" / "recipes" / "quickstart.yaml")


def test_plan_on_the_command_line(root: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(root / "conf/recipes/lvd142m.yaml")])
    assert result.exit_code == 0
    assert "142,109,386" in result.output


@pytest.mark.parametrize(
    ("balance", "keeps"),
    [
        ({"target": 1234}, "target keeps 1,234 images at most"),
        ({"per_host": 7}, "per_host keeps 7 images of each host at most"),
        ({"per_cluster": 7}, "per_cluster keeps 7 images of each cluster of level 0 at most"),
        (
            {"per_seed_set": {"flowers": 1234}},
            "per_seed_set.flowers keeps 1,234 images that the arms of flowers claim at most",
        ),
    ],
)
def test_a_plan_says_what_bounds_the_total(
    balance: dict[str, Any], keeps: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(SPEC | {"balance": balance}))
    result = CliRunner().invoke(app, ["plan", str(path)])
    assert result.exit_code == 0
    assert f"balance.{keeps}" in " ".join(result.output.split())
