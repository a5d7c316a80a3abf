"""The keys of a recipe have no order: neither its encoders nor anything else depends on it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.errors import RecipeError
from curation.flow import plan, run_fingerprint
from curation.recipe import Recipe, parse_recipe

RECIPES = ("quickstart", "lvd142m", "lvd1689m", "vo743m")
POOL = {"name": "web", "role": "pool", "format": "folder", "path": "pics"}
VIT, COPY = {"model": "vit_micro"}, {"model": "copy_micro"}
CLIP = {"model": "open_clip/ViT-B-32/laion2b_s34b_b79k"}
CAPTIONS = CLIP | {"of": "caption"}


def shuffled(value: Any, rng: random.Random) -> Any:
    """Return a value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    if isinstance(value, list):
        return [shuffled(item, rng) for item in value]
    return value


def with_encoders(encoders: dict[str, Any], **blocks: Any) -> Recipe:
    spec: dict[str, Any] = {"name": "keys", "sources": [POOL], "embed": {"encoders": encoders}}
    return parse_recipe(spec | {"dedup": {"near": None}} | blocks)


@pytest.mark.parametrize("name", RECIPES)
def test_plans_do_not_depend_on_the_order_of_keys(root: Path, name: str) -> None:
    spec = yaml.safe_load((root / "conf" / "recipes" / f"{name}.yaml").read_text())
    recipe = parse_recipe(spec)
    expected = {
        step.name: (step.fingerprint, step.params, dict(step.reads)) for step in plan(recipe)
    }
    for seed in range(5):
        other = parse_recipe(shuffled(spec, random.Random(seed)))
        assert run_fingerprint(other) == run_fingerprint(recipe)
        for step in plan(other):
            fingerprint, params, reads = expected[step.name]
            assert step.fingerprint == fingerprint
            assert step.params == params
            # The first threshold that a row fails is its reason.
            thresholds = [list(getattr(p, "thresholds", {})) for p in (step.params, params)]
            assert thresholds[0] == thresholds[1]
            assert {n: sorted(t) for n, t in step.reads.items()} == {
                n: sorted(t) for n, t in reads.items()
            }
        assert (other.semantic_encoder, other.match_encoder) == (
            recipe.semantic_encoder,
            recipe.match_encoder,
        )


@pytest.mark.parametrize(
    ("encoders", "chosen"),
    [
        ({"any": VIT}, "any"),
        ({"clip": CLIP, "texts": CAPTIONS}, "clip"),
        ({"texts": CAPTIONS, "clip": CLIP}, "clip"),
    ],
)
def test_the_only_encoder_of_images_need_not_be_named(encoders: Any, chosen: str) -> None:
    recipe = with_encoders(encoders)
    assert (recipe.semantic_encoder, recipe.match_encoder) == (chosen, chosen)


def test_of_the_default_encoders_semantic_clusters() -> None:
    recipe = parse_recipe({"name": "keys", "sources": [POOL], "embed": {"batch_size": 8}})
    assert recipe.semantic_encoder == recipe.match_encoder == "semantic"


@pytest.mark.parametrize(
    "encoders",
    [
        {"semantic": VIT, "copy": COPY},
        {"copy": COPY, "semantic": VIT},
        {"one": VIT, "two": CLIP, "texts": CAPTIONS},
    ],
)
def test_one_of_several_encoders_must_be_named(encoders: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as error:
        with_encoders(encoders)
    images = [name for name in encoders if name != "texts"]
    assert "cluster.encoder: is missing" in str(error.value)
    assert ", ".join(images) in str(error.value)
    assert "cluster: {encoder:" in str(error.value)
    for name in images:
        recipe = with_encoders(encoders, cluster={"encoder": name})
        assert (recipe.semantic_encoder, recipe.match_encoder) == (name, name)
        other = with_encoders(encoders, cluster={"encoder": name}, match={"encoder": images[-1]})
        assert other.match_encoder == images[-1]


@pytest.mark.parametrize(
    "blocks",
    [
        {"cluster": {"encoder": "texts"}},
        {"cluster": {"encoder": "clip"}, "match": {"encoder": "texts"}},
        {"cluster": {"encoder": "clip"}, "dedup": {"near": {"encoder": "texts"}}},
        {"dedup": {"near": None, "semantic": {"encoder": "texts"}}},
    ],
)
def test_an_encoder_of_captions_has_no_vectors_of_images(blocks: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="texts embeds captions; name an encoder of images"):
        with_encoders({"clip": CLIP, "texts": CAPTIONS}, **blocks)


def test_a_recipe_needs_an_encoder_of_images() -> None:
    with pytest.raises(RecipeError, match="none of them embeds images"):
        with_encoders({"texts": CAPTIONS})
