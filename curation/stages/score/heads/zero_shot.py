"""A score from words alone: how near a picture lies to prompts, or how much nearer than to others.

Zero-shot classification as CLIP does it (Radford et al. 2021, section 3.1): the softmax of scaled
cosine similarities to all prompts, of which those of `prompts` are added up. Without `against` the
score is the largest cosine similarity to a prompt.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from curation.algorithms.arrays.vectors import Vectors
from curation.errors import RecipeError
from curation.media.encoders.params import EncoderSpec
from curation.stages.score.heads.base import Given, Head, Identity, Scores, check_one_model
from curation.stages.score.heads.spec import HeadSpec

Doubles = npt.NDArray[np.float64]


def load(spec: HeadSpec, given: Given) -> Head:
    """Return the head: vectors of pictures (n, dim) to scores (n,).

    Raises:
        RecipeError: the encoder's text tower cannot be loaded, or the pictures are of another model.
    """
    texts = given.encoders[spec.encoder].model_copy(update={"of": "caption"})
    wanted = _embedded(texts, spec.prompts, given.identities[spec.encoder])
    others = _embedded(texts, spec.against, given.identities[spec.encoder])

    def head(pictures: Vectors) -> Scores:
        near = _cosines(pictures, wanted)
        if not spec.against:
            return np.asarray(near.max(axis=1), np.float32)
        every = np.concatenate([near, _cosines(pictures, others)], axis=1)
        shares = softmax(spec.scale * every, axis=1)
        return np.asarray(shares[:, : len(wanted)].sum(axis=1), np.float32)

    return head


def _cosines(pictures: Vectors, texts: Doubles) -> Doubles:
    # Row by row, so that a score does not depend on which rows are scored together.
    cosines: Doubles = np.einsum("nd,td->nt", pictures.astype(np.float64), texts)
    return cosines


def _embedded(spec: EncoderSpec, texts: tuple[str, ...], pictures: Identity) -> Doubles:
    from curation.media.encoders.encoder import load_encoder

    check_one_model("zero_shot", pictures, load_encoder(spec, "cpu").identity)
    return _vectors(spec, texts)


@lru_cache(maxsize=64)
def _vectors(spec: EncoderSpec, texts: tuple[str, ...]) -> Doubles:
    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import encode

    encoder = load_encoder(spec, "cpu")
    vectors, valid = encode(encoder, texts, 8, "cpu")
    if not valid.all():
        bad = [text for text, good in zip(texts, valid, strict=True) if not good]
        raise RecipeError(f"The encoder gives no vector for the prompts {bad}.")
    return vectors.astype(np.float64)
