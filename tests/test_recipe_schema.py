"""The JSON schema of recipes: up to date, named by shipped recipes, and as strict as the models."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from curation.errors import Detail, RecipeError
from curation.recipe import load_recipe, parse_recipe
from curation.recipe.schema import recipe_schema
from tests.recipe_schema import problems, validator

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "conf" / "recipe.schema.json"
RECIPES = sorted((ROOT / "conf" / "recipes").glob("*.yaml"))
PREFIX = "# yaml-language-server: $schema="
SPECS = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RECIPES]


def test_the_schema_in_the_repository_is_that_of_the_models() -> None:
    # In a process of its own, since tests load plug-ins.
    done = subprocess.run(
        [sys.executable, "-m", "curation.cli", "schema"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    hint = "run: curation schema > conf/recipe.schema.json"
    assert SCHEMA.read_text(encoding="utf-8") == done.stdout, hint


def test_the_schema_is_valid() -> None:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    for definition in [schema, *schema["$defs"].values()]:
        for name, field in definition.get("properties", {}).items():
            assert field.get("description") or "$ref" in field, name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.name))
def test_a_shipped_recipe_names_the_schema_and_fits_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(PREFIX)
    assert (path.parent / first.removeprefix(PREFIX)).resolve() == SCHEMA
    load_recipe(path)
    assert problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def places(spec: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every mapping within a recipe, by its keys."""
    items = spec.items() if isinstance(spec, dict) else enumerate(spec)
    if isinstance(spec, dict):
        yield place
    for key, value in items:
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def at(spec: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        spec = spec[key]
    return spec


MAPPINGS = [(number, place) for number, spec in enumerate(SPECS) for place in places(spec)]


@settings(deadline=None)
@given(st.sampled_from(MAPPINGS), st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_an_unknown_key_that_the_models_refuse_is_refused(
    mapping: tuple[int, tuple[Any, ...]], key: str
) -> None:
    number, place = mapping
    spec = copy.deepcopy(SPECS[number])
    if key in at(spec, place):
        return
    at(spec, place)[key] = {"at_least": 1}
    if any("unknown key" in detail.message for detail in details(spec)):
        assert problems(spec) != []


KEYS = [(number, place, key) for number, place in MAPPINGS for key in at(SPECS[number], place)]


@settings(deadline=None)
@given(st.sampled_from(KEYS))
def test_a_missing_key_that_the_models_need_is_refused(
    removed: tuple[int, tuple[Any, ...], str],
) -> None:
    number, place, key = removed
    spec = copy.deepcopy(SPECS[number])
    del at(spec, place)[key]
    if any("has no default" in detail.fix for detail in details(spec)):
        assert problems(spec) != []


def details(spec: Any) -> Sequence[Detail]:
    """What the models say is wrong with a recipe."""
    try:
        parse_recipe(spec)
    except RecipeError as error:
        return error.details
    return ()


WRONG_NAMES: list[dict[str, Any]] = [
    {"sources": [{"name": "w", "role": "pool", "format": "parket", "path": "p"}]},
    {"screen": {"filters": ["aspct"]}},
    {"score": {"heads": {"h": {"kind": "liner", "encoder": "semantic", "weights": "w"}}}},
    {"embed": {"encoders": {"semantic": {"model": "resnet"}}}},
    {"cluster": {"backend": "fais"}},
    {"fetch": {"faces": {"detector": "hare"}}},
    {"fetch": {"formats": ["heik"]}},
    {"fetch": {"fail_over": {"timeuot": 0.1}}},
    {"retrieve": [{"name": "a", "strategy": "sampel"}]},
    {"retrieve": [{"name": "a", "seeds": "s", "strategy": "sample", "kk": 1}]},
]
OPEN = ("screen", "score", "embed")


@pytest.mark.parametrize("blocks", WRONG_NAMES, ids=str)
def test_a_name_that_no_registry_has_is_refused(blocks: dict[str, Any]) -> None:
    source = {"name": "w", "role": "pool", "format": "folder", "path": "p"}
    spec = {"name": "r", "sources": [source]} | blocks
    assert details(spec) and problems(spec) != []
    opened = problems(spec | {"plugins": ["mine.py"]}) == []
    may_be_of_a_plugin = next(iter(blocks)) in OPEN or blocks == WRONG_NAMES[-2]
    assert opened == may_be_of_a_plugin


def test_editors_get_names_descriptions_and_defaults() -> None:
    schema: Any = validator().schema
    filters = schema["$defs"]["ScreenParams"]["properties"]["filters"]
    assert {"aspect", "entropy"} <= set(filters["items"]["anyOf"][0]["enum"])
    assert "aspect" in filters["default"] and "score" in filters["description"]
