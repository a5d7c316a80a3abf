"""How large encoders are, counted on models without weights."""

from __future__ import annotations

from dataclasses import dataclass

from curation.media.encoders import ENCODERS
from curation.media.encoders.params import EncoderSpec
from curation.recipe import Recipe


@dataclass(frozen=True)
class Shape:
    """An encoder: length of its vectors, and floating-point operations a picture."""

    dim: int
    flop: float


def shapes_of(recipe: Recipe) -> dict[str, Shape]:
    """Return the shape of every encoder of a recipe, counted on a model without weights."""
    return {name: _shape(spec) for name, spec in recipe.embed.encoders.items()}


def _shape(spec: EncoderSpec) -> Shape:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    name = spec.model.partition("/")[2]
    model, blank, dim = ENCODERS.load(spec.family).skeleton(name, spec)
    # A frozen TorchScript module has no parameters.
    device = next(model.parameters(), torch.empty(0)).device
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        given = blank.float() if blank.dtype == torch.uint8 else blank
        model.eval()(given.to(device)[None])
    return Shape(dim, float(counter.get_total_flops()))
