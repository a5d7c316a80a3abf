"""A linear head from a file with `weight` (1, dim) and `bias` (1,), as LAION's aesthetic predictor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Vectors
from curation.errors import RecipeError
from curation.stages.score.heads.base import (
    EncoderInfo,
    Head,
    Scores,
    check_dimension,
    head_weights,
)
from curation.stages.score.heads.spec import HeadSpec


def load(spec: HeadSpec, info: EncoderInfo) -> Head:
    """Return the head: from unit vectors (n, dim) to scores (n,).

    Raises:
        RecipeError: the file is not a linear head, or is for vectors of another dimension.
    """
    state = head_weights(spec, info)
    shapes = {k: list(v.shape) for k, v in state.items()}
    dims = shapes.get("weight", [])[1:]
    if len(dims) != 1 or shapes != {"weight": [1, *dims], "bias": [1]}:
        raise RecipeError(
            f"{spec.weights!r} is not a linear head: it has the tensors {shapes}",
            fix=(
                "Give it the tensors weight (1, dim) and bias (1,). For a network of several layers, "
                "use `kind: mlp`"
            ),
        )
    weight = state["weight"][0].double().numpy()
    bias = float(state["bias"][0])

    def head(vectors: Vectors) -> Scores:
        check_dimension(spec, len(weight), vectors)
        # Row by row in float64, so that a score does not depend on the other rows.
        scores: npt.NDArray[np.float64] = np.einsum("nd,d->n", vectors.astype(np.float64), weight)
        return (scores + bias).astype(np.float32)

    return head
