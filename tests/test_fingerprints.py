"""What decides rows stands in fingerprints and memos, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.engine.params_base import (
    StrictModel,
    changed_fields,
    derive_params,
    fingerprint_params,
    manifest_params,
)
from curation.engine.units import StageOutput, content_of
from curation.flow import plan, run_fingerprint
from curation.media.encoders.params import EncoderSpec
from curation.media.web.urls import UrlRules
from curation.recipe import load_recipe, parse_recipe
from curation.stages.embed.params import EmbedParams
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile
from curation.store.store import Store

GOLDEN = Path(__file__).parent / "fingerprints.json"
RECIPES = ("quickstart", "lvd142m", "lvd1689m", "vo743m")


def shipped(root: Path) -> dict[str, dict[str, str]]:
    """Return the fingerprints of the shipped recipes by step; `python -m tests.test_fingerprints`."""
    by_recipe = {}
    for name in RECIPES:
        recipe = load_recipe(root / "conf" / "recipes" / f"{name}.yaml")
        steps = {step.name: step.fingerprint[:16] for step in plan(recipe)}
        by_recipe[name] = {"run": run_fingerprint(recipe)} | steps
    return by_recipe


def test_the_shipped_recipes_keep_their_fingerprints(root: Path) -> None:
    """A new optional field changes none; a stage's version changes its own and those after it."""
    golden, computed = json.loads(GOLDEN.read_text()), shipped(root)
    changed = [
        f"{recipe}: {step}"
        for recipe, steps in computed.items()
        for step, value in steps.items()
        if golden[recipe].get(step) != value
    ]
    assert not changed, (
        f"Stored runs of these would be computed anew: {', '.join(changed)}. If that is meant, since a "
        "stage's version was raised, run `python -m tests.test_fingerprints`."
    )


class WiderSpec(EncoderSpec):
    """An encoder's spec with an option that came later."""

    bins: int | None = None
    scales: list[int] = [1]


def test_an_option_that_comes_later_changes_no_fingerprint() -> None:
    spec: dict[str, Any] = {"model": "timm/vit_small_patch14_dinov2.lvd142m", "precision": "bf16"}
    assert fingerprint_params(WiderSpec(**spec)) == fingerprint_params(EncoderSpec(**spec))
    assert fingerprint_params(WiderSpec(**spec, bins=4)) != fingerprint_params(EncoderSpec(**spec))


class WiderSource(Source):
    """A source with an option that came later."""

    encoding: str | None = None


@dataclass(frozen=True)
class WiderRules(UrlRules):
    """URL rules with a rule that came later."""

    allowed_ports: tuple[int, ...] = (80, 443)


def test_an_option_that_comes_later_changes_no_memo() -> None:
    """Neither of what reads the files of a source, nor of what gets its rules as an argument."""
    spec: dict[str, Any] = {"name": "web", "role": "pool", "format": "folder", "path": "p"}

    def memo(source: Source) -> Any:
        return content_of(SourceFile(source, "/p", "a.jpg", 3, 5))

    assert memo(WiderSource(**spec)) == memo(Source(**spec)) == memo(Source(**spec, count=3))
    assert memo(WiderSource(**spec, encoding="latin-1")) != memo(Source(**spec))
    assert content_of(WiderRules(100, ("ad",))) == content_of(UrlRules(100, ("ad",)))
    assert content_of(WiderRules(allowed_ports=(8080,))) != content_of(UrlRules())
    assert content_of(UrlRules(100)) != content_of(UrlRules())


def test_a_default_that_is_written_out_is_the_default() -> None:
    spec: dict[str, Any] = {
        "name": "small",
        "sources": [{"name": "web", "role": "pool", "format": "folder", "path": "p"}],
    }
    blocks = {
        "dedup": {"near": {"k": 64, "at_least": 0.75}, "chains": "join"},
        "cluster": {"levels": [64], "resampling": {"rounds": 10}},
        "embed": {"batch_size": 64},
        "select": {},
    }
    short, long = parse_recipe(spec), parse_recipe(spec | blocks)
    assert [s.fingerprint for s in plan(short)] == [s.fingerprint for s in plan(long)]


def test_null_is_not_the_default_where_the_default_is_a_block() -> None:
    spec: dict[str, Any] = {
        "name": "small",
        "sources": [{"name": "web", "role": "pool", "format": "folder", "path": "p"}],
    }
    without = parse_recipe(spec | {"dedup": {"near": None}})
    assert plan(without)[-1].fingerprint != plan(parse_recipe(spec))[-1].fingerprint


def test_what_a_manifest_says_of_parameters_can_be_compared_with_those_of_today() -> None:
    before = manifest_params(EmbedParams())
    assert before["batch_size"] == 64 and set(before["encoders"]) == {"semantic", "copy"}
    assert changed_fields(EmbedParams(), before) == set()
    assert changed_fields(EmbedParams(batch_size=7), before) == {"batch_size"}
    spec = EncoderSpec(model="timm/vit_tiny_patch16_224")
    assert changed_fields(derive_params(WiderSpec, spec), manifest_params(spec)) == set()
    assert "model" in changed_fields(spec, {"model": 3})


def one_row(number: int) -> StageOutput:
    yield pa.record_batch({"number": [number]})
    return None


@pytest.mark.parametrize("attribute", ["__module__", "__doc__"])
def test_a_function_may_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    """Work that a stopped run finished is found although its function stands elsewhere now."""
    context = Context(Store(tmp_path), InProcess(), "moving", ["moving", 1])
    before = context.compute("rows", one_row, {"a": {"number": 1}})
    monkeypatch.setattr(one_row, attribute, "another.module")
    after = context.compute("rows", one_row, {"a": {"number": 1}})
    assert before["a"].record == after["a"].record


@dataclass(frozen=True)
class Limit:
    """An argument of a unit."""

    cap: int
    sets: tuple[str, ...] = ()
    within: Limit | None = None


def test_every_field_of_a_dataclass_is_part_of_memos() -> None:
    assert content_of(Limit(3, ("a", "b"), Limit(4))) == [3, ["a", "b"], [4, [], None]]
    values = (Limit(3), Limit(4), Limit(3, ("a",)), Limit(3, within=Limit(3)))
    assert len({json.dumps(content_of(value)) for value in values}) == len(values)


def test_models_of_two_kinds_are_told_apart() -> None:
    class One(StrictModel):
        strategy: str
        k: int = 4

    assert fingerprint_params(One(strategy="sample")) != fingerprint_params(One(strategy="cluster"))


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    GOLDEN.write_text(json.dumps(shipped(root), indent=1) + "\n")
