"""What a head is: a score a row, from the vectors of one encoder or two."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Vectors
from curation.errors import RecipeError
from curation.media.encoders.params import EncoderSpec
from curation.stages.score.heads.spec import HeadSpec

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


def head_weights(spec: HeadSpec, given: Given) -> dict[str, Any]:
    """Return the tensors of a head's file.

    Raises:
        RecipeError: it cannot be read, or says that it was trained on vectors of another encoder.
    """
    from curation.media.encoders.encoder import read_weights

    path, identity = str(spec.weights), given.identities.get(spec.encoder)
    state, _ = read_weights(path)
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise RecipeError(
            f"The head {path!r} has weights that are no finite numbers, in {', '.join(broken[:8])}. "
            "Train it anew, or fetch the file again."
        )
    trained_on = _trained_on(path)
    if None not in (trained_on, identity) and trained_on != identity:
        raise RecipeError(
            f"The head {path!r} was trained on vectors of {trained_on}; those here are of {identity}. "
            "Name the encoder it was trained on, or train it anew."
        )
    return state


def _trained_on(path: str) -> Identity:
    if not path.endswith(".safetensors"):
        return None
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        told = (file.metadata() or {}).get(ABOUT)
    if not told:
        return None
    try:
        found: Identity = json.loads(told)["encoder"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecipeError(
            f"The head {path!r} does not tell in {ABOUT!r} of its metadata which encoder it was "
            f"trained on, as train-filter writes it ({type(error).__name__}: {error}). Train it anew, "
            "or leave that entry out."
        ) from error
    return found


def check_dimension(spec: HeadSpec, wanted: int, vectors: Vectors) -> None:
    """Refuse vectors of another length than a head is for.

    Raises:
        RecipeError: they are.
    """
    if vectors.shape[1] != wanted:
        raise RecipeError(
            f"The head {spec.weights!r} is for vectors of dimension {wanted}; its encoder gives "
            f"{vectors.shape[1]}. Name the encoder it was trained on."
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
