"""Profiles encoders on models without weights: vector length, and operations per image."""

from __future__ import annotations

from dataclasses import dataclass

from curation.media.encoders import ENCODERS
from curation.media.encoders.params import EncoderSpec
from curation.recipe import Recipe


@dataclass(frozen=True)
class EncoderProfile:
    """Dimensions of an encoder's vectors, and floating-point operations per image."""

    dim: int
    flop: float


def profile_encoders(recipe: Recipe) -> dict[str, EncoderProfile]:
    """Return the profile of every encoder of a recipe, by its name in the recipe."""
    return {name: _profile(spec) for name, spec in recipe.embed.encoders.items()}


def _profile(spec: EncoderSpec) -> EncoderProfile:
    if spec.is_imported:
        from curation.media.encoders.imported import one_dim, open_sets

        return EncoderProfile(one_dim(open_sets(spec).values()), 0.0)
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    name = spec.model.partition("/")[2]
    model, blank, dim = ENCODERS.load(spec.family).skeleton(name, spec)
    # A frozen TorchScript module has no parameters.
    device = next(model.parameters(), torch.empty(0)).device
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        pixels = blank.float() if blank.dtype == torch.uint8 else blank
        model.eval()(pixels.to(device)[None])
    return EncoderProfile(dim, float(counter.get_total_flops()))
