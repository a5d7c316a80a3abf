"""Which steps run, and what is refused before the first one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from curation.engine.cluster import Cluster
from curation.errors import RecipeError
from curation.flow import Step, plan, select_steps
from curation.launch import run_steps
from curation.recipe import parse_recipe
from curation.runner.preflight import check_encoders, check_inputs
from curation.store.store import Store

from .tables import has_table
from .test_flow import SPEC

STEPS = plan(parse_recipe(SPEC))


def names(steps: Iterable[Step]) -> list[str]:
    return [s.name for s in steps]


def test_select_steps() -> None:
    assert names(select_steps(STEPS)) == names(STEPS)
    assert names(select_steps(STEPS, only="select")) == ["select"]
    assert names(select_steps(STEPS, first="match")) == ["match", "retrieve", "assemble"]
    assert names(select_steps(STEPS, until="fetch")) == ["ingest", "fetch"]
    assert names(select_steps(STEPS, first="fetch", until="screen")) == ["fetch", "screen"]
    for beside in ({"first": "fetch"}, {"until": "screen"}, {"first": "fetch", "until": "screen"}):
        with pytest.raises(RecipeError, match=r"no effect beside --only select. Leave one"):
            select_steps(STEPS, only="select", **beside)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"only": "selekt"}, "'selekt'.*Valid: ingest"),
        ({"first": "match", "until": "fetch"}, "comes after"),
    ],
)
def test_select_steps_refuses(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        select_steps(STEPS, **arguments)


def test_every_missing_file_is_named_at_once(tmp_path: Path) -> None:
    blocks = {
        "ingest": {"blocked_domains": "no/blocked.txt"},
        "embed": {
            "encoders": {"semantic": {"model": "timm/test_vit", "weights": "no/w.safetensors"}}
        },
        "dedup": {"near": None},
    }
    with pytest.raises(RecipeError) as error:
        check_inputs(parse_recipe(SPEC | blocks))
    text = str(error.value)
    for place in (
        "ingest.blocked_domains",
        "no/blocked.txt",
        "no/w.safetensors",
        "'web'",
        "'flowers'",
    ):
        assert place in text


INPUT_FILES = pytest.mark.parametrize(
    ("place", "blocks"),
    [
        ("ingest.blocked_domains", {"ingest": {"blocked_domains": "{}"}}),
        ("screen.words.rude.file", {"screen": {"words": {"rude": {"file": "{}"}}}}),
        ("fetch.faces.weights", {"fetch": {"faces": {"detector": "yunet", "weights": "{}"}}}),
        (
            "embed.encoders.semantic.weights",
            {"embed": {"encoders": {"semantic": {"model": "timm/test_vit", "weights": "{}"}}}},
        ),
    ],
)


@INPUT_FILES
def test_only_lists_and_stores_may_be_elsewhere(place: str, blocks: dict[str, Any]) -> None:
    address = "https://h.example/f.bin?sig=S3CR3T"
    blocks = json.loads(json.dumps(blocks).replace("{}", address))
    with pytest.raises(RecipeError, match=f"{place}: .*is an address.*Download") as error:
        check_inputs(parse_recipe(SPEC | {"dedup": {"near": None}} | blocks))
    assert "S3CR3T" not in str(error.value)


@INPUT_FILES
def test_a_pipe_or_a_device_is_no_input_file(
    tmp_path: Path, place: str, blocks: dict[str, Any]
) -> None:
    """Opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        replaced = json.loads(json.dumps(blocks).replace("{}", str(path)))
        with pytest.raises(RecipeError) as error:
            check_inputs(parse_recipe(SPEC | {"dedup": {"near": None}} | replaced))
        assert f"{place}: {str(path)!r} is a pipe, a device or a socket" in str(error.value)
        assert "Name a file" in str(error.value)


def test_encoders_and_heads_are_loaded_before_any_work(tmp_path: Path) -> None:
    lists = tmp_path / "urls.txt"
    lists.write_text("http://127.0.0.1:9/a.jpg\n")
    pool = {"name": "web", "role": "pool", "format": "txt", "path": str(lists)}
    encoders = {
        "semantic": {"model": "vit_micro"},
        "one": {"model": "timm/vit_tinny_patch16_224.augreg_in21k"},
        "two": {"model": "open_clip/ViT-B-23", "weights": str(lists)},
    }
    spec = {
        "name": "t",
        "sources": [pool],
        "embed": {"encoders": encoders},
        "cluster": {"encoder": "semantic"},
        "dedup": {"near": None},
    }
    recipe = parse_recipe(spec)
    store = Store(tmp_path / "store")
    with pytest.raises(RecipeError) as error:
        run_steps(plan(recipe), recipe, store, Cluster())
    text = str(error.value)
    assert "embed.encoders.one: timm cannot create 'vit_tinny" in text
    assert "Similar names: vit_tiny_patch16_224" in text
    assert "embed.encoders.two: open_clip has no model 'ViT-B-23'" in text
    assert not has_table(store, "pairs")
    # Heads are loaded too, and called with vectors of their encoder's dimension.
    save_file({"weight": torch.zeros(1, 7), "bias": torch.zeros(1)}, tmp_path / "seven.safetensors")
    heads = {
        "text": {"kind": "linear", "encoder": "semantic", "weights": str(lists)},
        "wide": {"encoder": "semantic", "weights": str(tmp_path / "seven.safetensors")},
    }
    spec |= {"embed": {"encoders": {"semantic": {"model": "vit_micro"}}}, "score": {"heads": heads}}
    recipe = parse_recipe(spec)
    with pytest.raises(RecipeError) as error:
        run_steps(plan(recipe), recipe, store, Cluster())
    text = str(error.value)
    assert "score.heads.text: " in text and "neither safetensors nor" in text
    assert "score.heads.wide: " in text and "for vectors of dimension 7" in text
    assert not has_table(store, "pairs")
    # Without the step `embed`, nothing is loaded.
    check_encoders(select_steps(plan(recipe), until="fetch"), store)
