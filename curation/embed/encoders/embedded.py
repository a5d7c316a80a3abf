"""`vit_micro`: the project's own small vision transformer, in the package. For first runs and tests."""

from __future__ import annotations

from curation.digest import file_sha256
from curation.embed.encoder import Encoder, build_transform, identity_of, preprocessing
from curation.embed.encoders import vit_micro
from curation.embed.encoders.vit_micro import VitMicro
from curation.errors import RecipeError
from curation.params import EncoderSpec


def skeleton(name: str, spec: EncoderSpec) -> tuple[VitMicro, int, int]:
    """Return the model without weights, the side of its input and the length of its vectors."""
    return VitMicro(), vit_micro.INPUT_SIZE, vit_micro.DIM


def load(name: str, spec: EncoderSpec) -> Encoder:
    """Load the packaged weights.

    Raises:
        RecipeError: the recipe names other weights or another input size.
    """
    if spec.weights or spec.input_size not in (None, vit_micro.INPUT_SIZE):
        raise RecipeError(
            "vit_micro has its own weights and input size; leave out `weights` and `input_size`, or "
            "name a timm model."
        )
    config = preprocessing(
        {
            "input_size": (3, vit_micro.INPUT_SIZE, vit_micro.INPUT_SIZE),
            "mean": vit_micro.MEAN,
            "std": vit_micro.STD,
            "crop_pct": vit_micro.CROP_PCT,
            "interpolation": vit_micro.INTERPOLATION,
        },
        spec,
    )
    return Encoder(
        model=vit_micro.load_vit_micro(),
        preprocess=build_transform(config),
        input_size=vit_micro.INPUT_SIZE,
        dim=vit_micro.DIM,
        identity=identity_of("vit_micro", file_sha256(vit_micro.WEIGHTS), vit_micro.DIM, config),
    )
