"""What a recipe needs besides rows: weights, lists, plug-ins; and the download of missing weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from curation.engine.params_base import input_files
from curation.errors import RecipeError
from curation.media.encoders import ENCODERS
from curation.media.encoders.checksum import checked_sha256
from curation.media.encoders.download import download_weights
from curation.plugins import load_plugins
from curation.recipe import Recipe
from curation.recipe.weights import Weights, weights_of


class Need(NamedTuple):
    """Something that a recipe needs.

    Attributes:
        place: where the recipe names it.
        what: its path, or the name of a model.
        state: whether it is there, in words.
        problem: why a run would fail without it, and how to mend that; None if it would not.
    """

    place: str
    what: str
    state: str
    problem: str | None = None


def needs_of(recipe: Recipe, fetch: bool) -> list[Need]:
    """Return everything that a recipe needs.

    Args:
        recipe: the recipe.
        fetch: whether missing weights are downloaded, where the recipe says from where.
    """
    weights = list(weights_of(recipe))
    needs = [_need(each, fetch) for each in weights]
    of_weights = {f"{each.place}.weights" for each in weights}
    for place, path in input_files(recipe):
        if place not in of_weights:
            there = Path(path).exists()
            needs.append(Need(place, path, "there") if there else _missing(place, path))
    plugins = ((name, load_plugins([name])[0].digest) for name in recipe.plugins)
    needs += [Need("plugins", name, f"there, source {digest}") for name, digest in plugins]
    return needs


def _need(weights: Weights, fetch: bool) -> Need:
    if weights.path is None:
        return _of_model(weights)
    try:
        if Path(weights.path).exists():
            sha256 = checked_sha256(weights.path, weights.sha256, required=weights.program)
            checked = "as the recipe says" if weights.sha256 else "not checked"
            return Need(weights.place, weights.path, f"there, sha256 {sha256} ({checked})")
        if weights.address is None or weights.sha256 is None:
            return _missing(weights.place, weights.path, "`weights_from`, or ")
        if not fetch:
            return Need(weights.place, weights.path, "missing", "`curation weights` downloads it")
        size = download_weights(weights.address, weights.path, weights.sha256)
        return Need(weights.place, weights.path, f"downloaded, {size:,} bytes, sha256 as expected")
    except RecipeError as error:
        return Need(weights.place, weights.path, "not usable", str(error))


def _of_model(weights: Weights) -> Need:
    entry = ENCODERS[weights.model.partition("/")[0]]
    if not entry.hub:
        state = "part of this package" if entry.packaged else "without a file of weights"
        return Need(weights.place, weights.model, state)
    return Need(
        weights.place,
        weights.model,
        "from the hub when it is loaded, at no pinned revision; each machine loads it by itself. To "
        "pin and ship it, set `weights`, `sha256` and `weights_from`",
    )


def _missing(place: str, path: str, other: str = "") -> Need:
    return Need(place, path, "missing", f"Set {other}the path of a file that is there.")


def is_in_hub_cache(model: str) -> bool:
    """Whether the weights of a model of timm are in the cache of the hub.

    Args:
        model: as a recipe names it, such as `timm/vit_small_patch14_dinov2.lvd142m`.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, "model.safetensors"), str)
    except HFValidationError:
        # No repository can have this name; loading the model says so.
        return False
