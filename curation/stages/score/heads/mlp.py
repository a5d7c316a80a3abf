"""A small network from a file: linear layers in a row, as LAION's improved aesthetic predictor.

The file holds `<name>.weight` (out, in) and `<name>.bias` (out,) of each layer; numbers in names give
their order. `activation` stands between layers (LAION's has none), `output` after the last one.
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
from curation.stages.score.heads.base import Given, Head, Scores, check_dimension, head_weights
from curation.stages.score.heads.spec import HeadSpec

Doubles = npt.NDArray[np.float64]
Layer = tuple[Doubles, Doubles]
BLOCK = 1024
"""Rows of a product: always as many, so that a score does not depend on its company."""
ACTIVATIONS: dict[str, Callable[[Doubles], Doubles]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": expit,
}


def load(spec: HeadSpec, given: Given) -> Head:
    """Return the head: unit vectors (n, dim) to scores (n,).

    Raises:
        RecipeError: the file does not hold such a network, or one for vectors of another dimension.
    """
    state = head_weights(spec, given)
    layers = layers_of(state, str(spec.weights))
    between, last = ACTIVATIONS[spec.activation], ACTIVATIONS[spec.output]
    dim = layers[0][0].shape[1]

    def head(vectors: Vectors) -> Scores:
        check_dimension(spec, dim, vectors)
        scores = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), BLOCK):
            some = vectors[start : start + BLOCK]
            x = np.zeros((BLOCK, dim))
            x[: len(some)] = some
            for number, (weight, bias) in enumerate(layers, start=1):
                x = x @ weight.T + bias
                x = between(x) if number < len(layers) else last(x)
            scores[start : start + len(some)] = x[: len(some), 0]
        return scores

    return head


def layers_of(state: Mapping[str, Any], path: str) -> list[Layer]:
    """Return weight and bias of each layer, in order.

    Raises:
        RecipeError: tensors are missing, or do not fit one after the other down to one score.
    """
    names = sorted({key.rpartition(".")[0] for key in state}, key=_natural)
    shapes = {key: list(value.shape) for key, value in state.items()}
    wrong = RecipeError(
        f"{path!r} is no network of linear layers that ends in one score: it holds {shapes}, wanted "
        "are <name>.weight (out, in) and <name>.bias (out,) of each layer, the last with out = 1."
    )
    if set(state) != {f"{name}.{part}" for name in names for part in ("weight", "bias")}:
        raise wrong
    layers = [
        (state[f"{n}.weight"].double().numpy(), state[f"{n}.bias"].double().numpy()) for n in names
    ]
    widths = [weight.shape[1] for weight, _ in layers if weight.ndim == 2] + [1]
    for (weight, bias), wide in zip(layers, widths[1:], strict=False):
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or len(weight) != wide:
            raise wrong
    if len(widths) != len(layers) + 1:
        raise wrong
    return layers


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
