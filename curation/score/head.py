"""What a head is: a score a row, from the vectors of one encoder or two."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import RecipeError
from curation.params import EncoderSpec

Scores = npt.NDArray[np.float32]
Head = Callable[..., Scores]
"""Unit vectors (n, dim), an array an encoder that the head reads, to scores (n,)."""
ABOUT = "curation"
"""Entry of a head's file that tells what `train-filter` learned it from."""
Identity = Mapping[str, Any] | None


@dataclass(frozen=True)
class Given:
    """What a head may ask about the encoders that it reads: their specs in the recipe, and whose
    vectors the tables hold (None where they do not tell)."""

    encoders: Mapping[str, EncoderSpec]
    identities: Mapping[str, Identity]


def check_own_encoder(path: str, identity: Identity) -> None:
    """Refuse a head that says it was trained on vectors of another encoder.

    Raises:
        RecipeError: it does.
    """
    if not path.endswith(".safetensors") or identity is None:
        return
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        told = (file.metadata() or {}).get(ABOUT)
    trained_on = json.loads(told)["encoder"] if told else None
    if trained_on is not None and trained_on != identity:
        raise RecipeError(
            f"The head {path!r} was trained on vectors of {trained_on}; those here are of {identity}. "
            "Name the encoder it was trained on, or train it anew."
        )


def check_one_model(place: str, pictures: Identity, captions: Identity) -> None:
    """Refuse vectors of pictures and captions that do not lie in one space.

    Raises:
        RecipeError: they are of two models.
    """
    if pictures is None or captions is None:
        return
    for fact in ("architecture", "weights_sha256", "dim"):
        if pictures.get(fact) != captions.get(fact):
            raise RecipeError(
                f"{place}: pictures are embedded by {fact} {pictures.get(fact)}, captions by "
                f"{captions.get(fact)}. Give both encoders the same model and weights."
            )
