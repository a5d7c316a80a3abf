"""The small encoders that are part of this package, so that a first run and tests need no model hub.

`vit_micro` is a semantic encoder. `copy_micro`, of the same architecture, is a copy descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curation.errors import RecipeError
from curation.media.encoders import vit_micro
from curation.media.encoders.encoder import (
    Encoder,
    Normalised,
    blank_image,
    encoder_identity,
    image_transform,
    override_config,
    with_precision,
)
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.vit_micro import VitMicro
from curation.store.digest import file_sha256


@dataclass(frozen=True)
class PackagedModel:
    """The weights of a packaged encoder, and the preprocessing of its images."""

    weights: Path
    input_size: int
    crop_pct: float
    crop_mode: str

    def config(self) -> dict[str, Any]:
        """Return the preprocessing as a data config of timm."""
        return {
            "input_size": (3, self.input_size, self.input_size),
            "mean": vit_micro.MEAN,
            "std": vit_micro.STD,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "interpolation": vit_micro.INTERPOLATION,
        }


WEIGHTS = vit_micro.WEIGHTS.parent
CPU_ROWS = 8
"""Inputs of one call on a CPU. The activations of 64 do not fit into its cache, and a picture then
takes 1.5 times as long (benchmarks/results/embed.md)."""
PACKAGED = {
    "vit_micro": PackagedModel(
        vit_micro.WEIGHTS, vit_micro.INPUT_SIZE, vit_micro.CROP_PCT, "center"
    ),
    # Any side of a copy may be cropped already, so nothing more is cropped.
    "copy_micro": PackagedModel(WEIGHTS / "copy_micro.safetensors", 160, 1.0, "squash"),
}


def skeleton(name: str, spec: EncoderSpec) -> tuple[VitMicro, torch.Tensor, int]:
    """Return the model without weights, one blank input, and the dimension of its vectors."""
    return VitMicro(), blank_image(PACKAGED[spec.model].config()), vit_micro.DIM


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load the packaged weights.

    Raises:
        RecipeError: the recipe gives other weights or another input size.
    """
    packaged = PACKAGED[spec.model]
    if spec.weights or spec.input_size not in (None, packaged.input_size):
        raise RecipeError(
            f"{spec.model} has weights and an input size of its own",
            fix="Remove `weights` and `input_size`, or choose a timm model",
        )
    config = override_config(packaged.config(), spec)
    identity = encoder_identity(spec.model, file_sha256(packaged.weights), vit_micro.DIM, config)
    return Encoder(
        model=Normalised(vit_micro.load_vit_micro(packaged.weights), config, spec.precision),
        preprocess=image_transform(config),
        blank=blank_image(config),
        dim=vit_micro.DIM,
        identity=with_precision(identity, spec),
        cpu_rows=CPU_ROWS,
    )
