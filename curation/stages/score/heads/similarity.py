"""The cosine similarity of a picture and its caption: CLIP score, as LAION and DataComp take it."""

from __future__ import annotations

import numpy as np

from curation.algorithms.arrays.vectors import Vectors
from curation.stages.score.heads.base import Given, Head, Scores, check_one_model
from curation.stages.score.heads.spec import HeadSpec


def load(spec: HeadSpec, given: Given) -> Head:
    """Return the head: vectors of pictures and of captions, (n, dim) each, to cosines (n,).

    Raises:
        RecipeError: the two are not of one model.
    """
    captions = str(spec.captions)
    check_one_model("similarity", given.identities[spec.encoder], given.identities[captions])
    return similarity


def similarity(pictures: Vectors, captions: Vectors) -> Scores:
    """Return the cosine similarity of each picture and its caption, (n,)."""
    cosine = np.einsum("nd,nd->n", pictures.astype(np.float64), captions.astype(np.float64))
    return np.asarray(cosine, np.float32)
