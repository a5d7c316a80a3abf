"""Heads: functions from the vectors of one or two encoders to one score per row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Vectors
from curation.errors import RecipeError
from curation.media.encoders.params import EncoderSpec
from curation.stages.score.heads.spec import HeadSpec

Scores = npt.NDArray[np.float32]
Head = Callable[..., Scores]
"""From unit vectors (n, dim), one array per encoder that the head reads, to scores (n,)."""
METADATA_KEY = "curation"
"""Entry in the metadata of a head's file in which `train-filter` describes the training."""
Identity = Mapping[str, Any] | None
"""Identity of an encoder; None if it is not recorded."""


@dataclass(frozen=True)
class EncoderInfo:
    """What a head may know about its encoders.

    Attributes:
        encoders: their specs in the recipe, by name; those whose text towers heads need.
        identities: the identities that embed recorded with their vectors, by name.
    """

    encoders: Mapping[str, EncoderSpec]
    identities: Mapping[str, Identity]


def head_weights(spec: HeadSpec, info: EncoderInfo) -> dict[str, Any]:
    """Return the tensors of a head's file.

    Raises:
        RecipeError: the file cannot be read, or the head was trained on vectors of another encoder.
    """
    from curation.media.encoders.private_copy import PrivateCopy
    from curation.media.encoders.state import tensors_of

    path, identity = str(spec.weights), info.identities.get(spec.encoder)
    with PrivateCopy(path) as copy:
        copy.check(spec.sha256)
        state = tensors_of(copy.path, path)
        trained_on = _training_encoder(copy.path, path)
    # Of numbers of 8 bits, torch says this in double precision alone.
    not_finite = [name for name, t in state.items() if not t.double().isfinite().all()]
    if not_finite:
        raise RecipeError(
            f"The head {path!r} has weights that are not finite, in {', '.join(not_finite[:8])}",
            fix="Train it again, or download the file again",
        )
    if None not in (trained_on, identity) and trained_on != identity:
        raise RecipeError(
            f"The head {path!r} was trained on vectors of {trained_on}, but those of "
            f"{spec.encoder} are of {identity}",
            fix="Set `encoder` to the one it was trained on, or train it again",
        )
    return state


def _training_encoder(file: Path, path: str) -> Identity:
    """Return the identity of the encoder that a head was trained on; None if its file has none."""
    if file.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    with safe_open(file, "numpy") as content:
        entry = (content.metadata() or {}).get(METADATA_KEY)
    if not entry:
        return None
    try:
        identity: Identity = json.loads(entry)["encoder"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecipeError(
            f"The entry {METADATA_KEY!r} in the metadata of the head {path!r} does not "
            "contain the encoder it was trained on, as train-filter writes it "
            f"({type(error).__name__}: {error})",
            fix="Train it again, or remove the entry",
        ) from error
    return identity


def check_dimension(spec: HeadSpec, dim: int, vectors: Vectors) -> None:
    """Check that vectors have the dimension that a head is for.

    Raises:
        RecipeError: they have another dimension.
    """
    if vectors.shape[1] != dim:
        raise RecipeError(
            f"The head {spec.weights!r} is for vectors of dimension {dim}, but its encoder "
            f"gives {vectors.shape[1]}",
            fix="Set `encoder` to the one it was trained on",
        )


def apply_head(head: Head, spec: HeadSpec, vectors: Sequence[Vectors]) -> Scores:
    """Return the scores (n,) that a head gives to unit vectors.

    Args:
        head: what `load` of its kind returned.
        spec: the head in the recipe.
        vectors: one array (n, dim) per encoder that the head reads.

    Raises:
        RecipeError: it does not return one number per vector: numpy would repeat a single one.
    """
    scores = np.asarray(head(*vectors))
    if scores.shape != (len(vectors[0]),) or scores.dtype.kind not in "fiu":
        raise RecipeError(
            f"A head of kind {spec.kind} returns {scores.dtype} {scores.shape} for "
            f"{len(vectors[0])} vectors",
            fix=f"Let the function that `load` of {spec.kind} returns give one number per vector, (n,)",
        )
    return scores.astype(np.float32, copy=False)


def check_same_model(kind: str, images: Identity, captions: Identity) -> None:
    """Check that vectors of images and captions are from the same model, and so comparable.

    Args:
        kind: of the head, for messages.
        images: identity of the encoder of images.
        captions: identity of the encoder of captions.

    Raises:
        RecipeError: they are from two models.
    """
    if images is None or captions is None:
        return
    for key in ("architecture", "weights_sha256", "dim"):
        if images.get(key) != captions.get(key):
            raise RecipeError(
                f"{kind}: the encoder of images has {key} {images.get(key)}, that of captions "
                f"{captions.get(key)}",
                fix="Give both encoders the same model and weights",
            )
