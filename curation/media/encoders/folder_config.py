"""What the configuration of a downloaded folder may say: it is from strangers, as the weights are.

It may describe a model as large as the weights beside it. It names no other file, and never reaches the
hub.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, ValidationError

from curation.errors import RecipeError

MAX_NUMBER = 10_000_000
"""Largest whole number in a configuration: more than the tokens of any vocabulary."""
MAX_LAYERS = 1_000
MAX_SIDE = 4096
"""Largest side of the pictures that a model takes, in pixels."""
MAX_RATIO, MAX_MORE = 4, 2**28
"""A model may take so many times the bytes of its file, and so many more: files have 16 bits a number,
and masks of attention are in no file."""
_LAYERS = ("layer", "depth", "block")


def check_numbers(config: Any, shown: str, name: str = "") -> None:
    """Check that the whole numbers of a configuration are those of a model that can be.

    Args:
        config: what JSON gave.
        shown: its file, for messages.
        name: the key that it stands under.

    Raises:
        RecipeError: a number is too large.
    """
    waiting = [(name, config)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner) for inner in value]
        elif isinstance(value, int):
            _check_number(value, shown, name)


def _check_number(number: int, shown: str, name: str) -> None:
    limit = MAX_LAYERS if any(part in name for part in _LAYERS) else MAX_NUMBER
    if abs(number) > limit:
        raise RecipeError(
            f"{shown!r} sets {name} to {number}; the largest number there is {limit:,}",
            fix="Download the file again from where the model was published",
        )


Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Colours = Annotated[
    list[Annotated[float, Field(ge=-1e3, le=1e3)]], Field(min_length=3, max_length=3)
]


class _Preprocessing(BaseModel):
    """How pictures are prepared, as timm and open_clip write it; all else is ignored."""

    input_size: tuple[Literal[3], Side, Side] | None = None
    size: Side | tuple[Side, Side] | None = None
    mean: Colours | None = None
    std: (
        Annotated[list[Annotated[float, Field(gt=1e-6)]], Field(min_length=3, max_length=3)] | None
    ) = None
    crop_pct: Annotated[float, Field(ge=0.05, le=2)] | None = None
    crop_mode: Literal["center", "squash", "border"] | None = None
    resize_mode: Literal["shortest", "longest", "squash"] | None = None
    interpolation: (
        Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "random"] | None
    ) = None


def check_preprocessing(config: Any, shown: str) -> None:
    """Check how a configuration has pictures prepared: a side of a million pixels takes terabytes.

    Args:
        config: what JSON gave, of timm or open_clip.
        shown: its file, for messages.

    Raises:
        RecipeError: a value is outside of its range.
    """
    try:
        _Preprocessing.model_validate(config)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"][:1])
        raise RecipeError(
            f"{shown!r} has no valid preprocessing of pictures: {name}: {problem['msg']}",
            fix="Download the file again from where the model was published",
        ) from error


def check_size(build: Callable[[], torch.nn.Module], weights: int, shown: str) -> None:
    """Check that a model is not much larger than its weights, before it takes memory.

    Args:
        build: builds it; it is called once, without memory for its numbers.
        weights: bytes of the file of its weights.
        shown: its file or folder, for messages.

    Raises:
        RecipeError: it is larger.
    """
    with torch.device("meta"):
        model = build()
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > MAX_RATIO * weights + MAX_MORE:
        raise RecipeError(
            f"The model of {shown!r} takes {size:,} bytes, and its weights have {weights:,}: "
            "they are of another model",
            fix="Correct `model` or `weights`, or download the folder again",
        )
