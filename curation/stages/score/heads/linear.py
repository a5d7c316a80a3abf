"""A linear head from a file: tensors `weight` (1, dim) and `bias` (1,), as LAION's aesthetic heads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Vectors
from curation.errors import RecipeError
from curation.stages.score.heads.base import Given, Head, Scores, check_dimension, head_weights
from curation.stages.score.heads.spec import HeadSpec


def load(spec: HeadSpec, given: Given) -> Head:
    """Return the head: unit vectors (n, dim) to scores (n,).

    Raises:
        RecipeError: the file does not hold a linear head, or one for vectors of another dimension.
    """
    state = head_weights(spec, given)
    if set(state) != {"weight", "bias"} or state["weight"].ndim != 2 or len(state["weight"]) != 1:
        shapes = {k: list(v.shape) for k, v in state.items()}
        raise RecipeError(
            f"{spec.weights!r} is no linear head: it holds {shapes}, wanted are weight (1, dim) and "
            "bias (1,)."
        )
    weight = state["weight"][0].double().numpy()
    bias = float(state["bias"][0])

    def head(vectors: Vectors) -> Scores:
        check_dimension(spec, len(weight), vectors)
        # Row by row in float64: the score does not depend on which rows are scored together.
        scores: npt.NDArray[np.float64] = np.einsum("nd,d->n", vectors.astype(np.float64), weight)
        return (scores + bias).astype(np.float32)

    return head
