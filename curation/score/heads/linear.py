"""A linear head from a file: tensors `weight` (1, dim) and `bias` (1,), as LAION's aesthetic heads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.embed.encoder import read_weights
from curation.errors import RecipeError
from curation.params import HeadSpec
from curation.score.head import Given, Head, Scores, check_own_encoder
from curation.vectors import Vectors


def load(spec: HeadSpec, given: Given) -> Head:
    """Return the head: unit vectors (n, dim) to scores (n,).

    Raises:
        RecipeError: the file does not hold a linear head, or one for vectors of another dimension.
    """
    path = str(spec.weights)
    state, _ = read_weights(path)
    check_own_encoder(path, given.identities.get(spec.encoder))
    if set(state) != {"weight", "bias"} or state["weight"].ndim != 2 or len(state["weight"]) != 1:
        shapes = {k: list(v.shape) for k, v in state.items()}
        raise RecipeError(
            f"{path!r} is no linear head: it holds {shapes}, wanted are weight (1, dim) and bias (1,)."
        )
    weight = state["weight"][0].double().numpy()
    bias = float(state["bias"][0])

    def head(vectors: Vectors) -> Scores:
        if vectors.shape[1] != len(weight):
            raise RecipeError(
                f"The head {path!r} is for vectors of dimension {len(weight)}; its encoder gives "
                f"{vectors.shape[1]}. Name the encoder it was trained on."
            )
        # Row by row in float64: the score does not depend on which rows are scored together.
        scores: npt.NDArray[np.float64] = np.einsum("nd,d->n", vectors.astype(np.float64), weight)
        return (scores + bias).astype(np.float32)

    return head
