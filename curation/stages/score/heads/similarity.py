"""The cosine similarity of an image and its caption: the CLIP score of LAION and DataComp."""

from __future__ import annotations

import numpy as np

from curation.algorithms.arrays.vectors import Vectors
from curation.stages.score.heads.base import EncoderInfo, Head, Scores, check_same_model
from curation.stages.score.heads.spec import HeadSpec


def load(spec: HeadSpec, info: EncoderInfo) -> Head:
    """Return the head: from unit vectors of images and captions, (n, dim) each, to cosines (n,).

    Raises:
        RecipeError: the two encoders are not of the same model.
    """
    captions = str(spec.captions)
    check_same_model("similarity", info.identities[spec.encoder], info.identities[captions])
    return similarity


def similarity(images: Vectors, captions: Vectors) -> Scores:
    """Return the cosine similarity of each image and its caption, (n,)."""
    cosine = np.einsum("nd,nd->n", images.astype(np.float64), captions.astype(np.float64))
    return np.asarray(cosine, np.float32)
