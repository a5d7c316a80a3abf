"""Zero-shot classification of images by prompts (CLIP, Radford et al. 2021, section 3.1).

The score is the sum of the softmax over scaled cosine similarities to all texts, taken over `prompts`.
Without `against` it is the largest cosine similarity to a prompt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from curation.algorithms.arrays.vectors import Vectors
from curation.errors import RecipeError
from curation.media.encoders.params import EncoderSpec
from curation.media.files.file_cache import cached_by_file
from curation.stages.score.heads.base import EncoderInfo, Head, Identity, Scores, check_same_model
from curation.stages.score.heads.spec import HeadSpec

Doubles = npt.NDArray[np.float64]


def load(spec: HeadSpec, info: EncoderInfo) -> Head:
    """Return the head: from unit vectors of images (n, dim) to scores (n,).

    Raises:
        RecipeError: the text tower of the encoder cannot be loaded, or the vectors of images are of
            another model.
    """
    text_encoder = info.encoders[spec.encoder].model_copy(update={"of": "caption"})
    prompts = _embed(text_encoder, spec.prompts, info.identities[spec.encoder])
    against = _embed(text_encoder, spec.against, info.identities[spec.encoder])

    def head(images: Vectors) -> Scores:
        cosines = _cosines(images, prompts)
        if not spec.against:
            return np.asarray(cosines.max(axis=1), np.float32)
        cosines = np.concatenate([cosines, _cosines(images, against)], axis=1)
        probabilities = softmax(spec.scale * cosines, axis=1)
        return np.asarray(probabilities[:, : len(prompts)].sum(axis=1), np.float32)

    return head


def _cosines(images: Vectors, texts: Doubles) -> Doubles:
    # Row by row, so that a score does not depend on the other rows.
    cosines: Doubles = np.einsum("nd,td->nt", images.astype(np.float64), texts)
    return cosines


def _embed(spec: EncoderSpec, texts: tuple[str, ...], images: Identity) -> Doubles:
    """Return the vectors of texts (t, dim), after checking that images are of the same model."""
    from curation.media.encoders.encoder import load_encoder

    check_same_model("zero_shot", images, load_encoder(spec, "cpu").identity)
    return _vectors(spec, texts)


@cached_by_file(lambda spec, texts: spec.weights, maxsize=64)
def _vectors(spec: EncoderSpec, texts: tuple[str, ...]) -> Doubles:
    from curation.media.encoders.encoder import load_encoder
    from curation.media.encoders.forward import encode

    encoder = load_encoder(spec, "cpu")
    vectors, valid = encode(encoder, texts, 8, "cpu")
    if not valid.all():
        invalid = [text for text, is_valid in zip(texts, valid, strict=True) if not is_valid]
        raise RecipeError(
            f"The encoder gives no finite vector for the prompts {invalid}",
            fix="Change or remove them",
        )
    return vectors.astype(np.float64)
