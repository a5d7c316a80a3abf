"""Finds the dimension of the vectors of a model that does not declare it, by a forward pass."""

from __future__ import annotations

import torch

from curation.errors import RecipeError

PROBE_IMAGES = 2
"""Images of the forward pass: with one image, a missing batch axis would not be noticed."""


def measure_dim(model: torch.nn.Module, side: int, path: str) -> int:
    """Return the dimension of a model's vectors, by a forward pass on images of zeros.

    Args:
        model: takes normalised images (n, 3, side, side).
        side: in pixels.
        path: of its file, for messages.

    Raises:
        RecipeError: the model does not take such images, or does not return floats (n, dim).
    """
    try:
        with torch.inference_mode():
            features = model(torch.zeros(PROBE_IMAGES, 3, side, side))
    except RecipeError:
        raise
    # The runtimes raise errors of different types, whose messages explain the problem.
    except Exception as error:
        raise RecipeError(
            f"{path!r} does not take images of shape ({PROBE_IMAGES}, 3, {side}, {side}): "
            f"{str(error).strip()}",
            fix="Set `input_size` to the side that the model takes",
        ) from error
    if not isinstance(features, torch.Tensor):
        output = f"a {type(features).__name__}"
    elif features.ndim == 2 and len(features) == PROBE_IMAGES and features.is_floating_point():
        return features.shape[1]
    else:
        output = f"{features.dtype} of shape {tuple(features.shape)}"
    raise RecipeError(
        f"{path!r} returns {output} for {PROBE_IMAGES} images; it must return floats of shape "
        f"({PROBE_IMAGES}, dim)",
        fix="Export the model with its pooling",
    )
