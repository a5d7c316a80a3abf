"""A multilayer perceptron from a file, as LAION's improved aesthetic predictor.

The file has the tensors `<name>.weight` (out, in) and `<name>.bias` (out,) of each linear layer, in the
order of the numbers in their names. `activation` is applied between layers (LAION's has none), and
`output` after the last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

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

Doubles = npt.NDArray[np.float64]
Layer = tuple[Doubles, Doubles]
BLOCK_ROWS = 1024
"""Rows of each matrix product: a fixed number, so that a score does not depend on the other rows."""
ACTIVATIONS: dict[str, Callable[[Doubles], Doubles]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": expit,
}


def load(spec: HeadSpec, info: EncoderInfo) -> Head:
    """Return the head: from unit vectors (n, dim) to scores (n,).

    Raises:
        RecipeError: the file is not such a network, or is for vectors of another dimension.
    """
    state = head_weights(spec, info)
    layers = read_layers(state, str(spec.weights))
    activation, output = ACTIVATIONS[spec.activation], ACTIVATIONS[spec.output]
    dim = layers[0][0].shape[1]

    def head(vectors: Vectors) -> Scores:
        check_dimension(spec, dim, vectors)
        scores = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), BLOCK_ROWS):
            block = vectors[start : start + BLOCK_ROWS]
            x = np.zeros((BLOCK_ROWS, dim))
            x[: len(block)] = block
            for number, (weight, bias) in enumerate(layers, start=1):
                x = x @ weight.T + bias
                x = activation(x) if number < len(layers) else output(x)
            scores[start : start + len(block)] = x[: len(block), 0]
        return scores

    return head


def read_layers(state: Mapping[str, Any], path: str) -> list[Layer]:
    """Return the weight (out, in) and bias (out,) of each layer in float64, in order.

    Raises:
        RecipeError: tensors are missing, or their shapes do not fit together.
    """
    names = sorted({key.rpartition(".")[0] for key in state}, key=lambda n: (_natural_key(n), n))
    shapes = {key: list(value.shape) for key, value in state.items()}
    invalid = RecipeError(
        f"{path!r} is not a network of linear layers with one output: it has the tensors {shapes}",
        fix=(
            "Give it the tensors <name>.weight (out, in) and <name>.bias (out,) of each layer; the "
            "last one has out = 1"
        ),
    )
    if not state or set(state) != {
        f"{name}.{part}" for name in names for part in ("weight", "bias")
    }:
        raise invalid
    layers = [
        (state[f"{n}.weight"].double().numpy(), state[f"{n}.bias"].double().numpy()) for n in names
    ]
    widths = [weight.shape[1] for weight, _ in layers if weight.ndim == 2] + [1]
    for (weight, bias), width in zip(layers, widths[1:], strict=False):
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or len(weight) != width:
            raise invalid
    if len(widths) != len(layers) + 1:
        raise invalid
    return layers


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key by which the numbers in names are ordered by their size, however long they are."""
    texts = enumerate(re.split(r"([0-9]+)", name))
    return [
        (len(t.lstrip("0")), t.lstrip("0")) if position % 2 else (-1, t) for position, t in texts
    ]
