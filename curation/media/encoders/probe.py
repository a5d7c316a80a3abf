"""What models that only their file knows have in common: how long their vectors are must be tried."""

from __future__ import annotations

import torch

from curation.errors import RecipeError

PROBED = 2
"""Pictures of the pass that finds the length of the vectors: one would hide a lost batch axis."""


def probed_dim(model: torch.nn.Module, side: int, path: str) -> int:
    """Return the length of a model's vectors, by a pass on black pictures.

    Args:
        model: takes normalised pictures (n, 3, side, side).
        side: in pixels.
        path: of its file, for messages.

    Raises:
        RecipeError: it does not take such pictures, or does not give a row of floats each.
    """
    try:
        with torch.inference_mode():
            features = model(torch.zeros(PROBED, 3, side, side))
    except RecipeError:
        raise
    # Whatever runs the file, its own errors say what was wrong with the pictures.
    except Exception as error:
        raise RecipeError(
            f"{path!r} does not take pictures ({PROBED}, 3, {side}, {side}); its own `input_size` may "
            f"be another. What runs it says: {error}"
        ) from error
    if not isinstance(features, torch.Tensor):
        found = f"a {type(features).__name__}"
    elif features.ndim == 2 and len(features) == PROBED and features.is_floating_point():
        return features.shape[1]
    else:
        found = f"{features.dtype} of shape {tuple(features.shape)}"
    raise RecipeError(
        f"{path!r} gives {found} for {PROBED} pictures; wanted are floats ({PROBED}, dim), a row a "
        "picture. Export the model with its pooling."
    )
