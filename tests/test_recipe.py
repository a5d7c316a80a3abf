"""A bad recipe fails before any work, and its message names the place, the valid and the fix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.errors import RecipeError
from curation.recipe import load_recipe, parse_recipe

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
    ],
)
def test_message_names_place_and_fix(blocks: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe({k: v for k, v in (SPEC | blocks).items() if k != "name" or v})
    for word in words:
        assert word in str(error.value)


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
