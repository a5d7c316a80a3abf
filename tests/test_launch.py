"""Which steps run, and what is refused before any of them does."""

from __future__ import annotations

import pytest

from curation.errors import RecipeError
from curation.flow import plan
from curation.launch import check_inputs, choose
from curation.recipe import parse_recipe

from .test_flow import SPEC

STEPS = plan(parse_recipe(SPEC))


def names(steps) -> list[str]:
    return [s.name for s in steps]


def test_choose():
    assert names(choose(STEPS)) == names(STEPS)
    assert names(choose(STEPS, only="select")) == ["select"]
    assert names(choose(STEPS, first="match")) == ["match", "retrieve", "assemble"]
    assert names(choose(STEPS, until="fetch")) == ["ingest", "fetch"]
    assert names(choose(STEPS, first="fetch", until="screen")) == ["fetch", "screen"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"only": "selekt"}, "'selekt'.*Valid: ingest"),
        ({"first": "match", "until": "fetch"}, "comes after"),
    ],
)
def test_choose_refuses(arguments, words):
    with pytest.raises(RecipeError, match=words):
        choose(STEPS, **arguments)


def test_every_missing_file_is_named_at_once(tmp_path):
    blocks = {
        "ingest": {"blocked_domains": "no/blocked.txt"},
        "embed": {
            "encoders": {"semantic": {"model": "timm/test_vit", "weights": "no/w.safetensors"}}
        },
        "dedup": {"near": None},
    }
    with pytest.raises(RecipeError) as error:
        check_inputs(parse_recipe(SPEC | blocks))
    said = str(error.value)
    for place in (
        "ingest.blocked_domains",
        "no/blocked.txt",
        "no/w.safetensors",
        "'web'",
        "'flowers'",
    ):
        assert place in said
