"""The project's own small encoders, in the package: a first run and the tests need no model hub.

`vit_micro` sees what a picture is of; `copy_micro`, of the same architecture, which picture it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curation.engine.digest import file_sha256
from curation.errors import RecipeError
from curation.media.encoders import vit_micro
from curation.media.encoders.encoder import (
    Encoder,
    Normalised,
    at_precision,
    build_transform,
    identity_of,
    no_picture,
    preprocessing,
)
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.vit_micro import VitMicro


@dataclass(frozen=True)
class Embedded:
    """The weights of an embedded encoder, and how its pictures are prepared."""

    weights: Path
    input_size: int
    crop_pct: float
    crop_mode: str

    def config(self) -> dict[str, Any]:
        """Return timm's data config."""
        return {
            "input_size": (3, self.input_size, self.input_size),
            "mean": vit_micro.MEAN,
            "std": vit_micro.STD,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "interpolation": vit_micro.INTERPOLATION,
        }


WEIGHTS = vit_micro.WEIGHTS.parent
EMBEDDED = {
    "vit_micro": Embedded(vit_micro.WEIGHTS, vit_micro.INPUT_SIZE, vit_micro.CROP_PCT, "center"),
    # A copy may have lost any side, so nothing is cut off.
    "copy_micro": Embedded(WEIGHTS / "copy_micro.safetensors", 160, 1.0, "squash"),
}


def skeleton(name: str, spec: EncoderSpec) -> tuple[VitMicro, torch.Tensor, int]:
    """Return the model without weights, one blank input, and the length of its vectors."""
    return VitMicro(), no_picture(EMBEDDED[spec.model].config()), vit_micro.DIM


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load the packaged weights.

    Raises:
        RecipeError: the recipe names other weights or another input size.
    """
    own = EMBEDDED[spec.model]
    if spec.weights or spec.input_size not in (None, own.input_size):
        raise RecipeError(
            f"{spec.model} has its own weights and input size; leave out `weights` and `input_size`, "
            "or name a timm model."
        )
    config = preprocessing(own.config(), spec)
    return Encoder(
        model=Normalised(vit_micro.load_vit_micro(own.weights), config, spec.precision),
        preprocess=build_transform(config),
        blank=no_picture(config),
        dim=vit_micro.DIM,
        identity=at_precision(
            identity_of(spec.model, file_sha256(own.weights), vit_micro.DIM, config), spec
        ),
    )
