"""What the configuration of a downloaded folder may say: it is from strangers, as the weights are.

It may describe a model as large as the weights beside it. It names no other file, and never reaches the
hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from curation.errors import RecipeError

MAX_NUMBER = 10_000_000
"""Largest whole number in a configuration: more than the tokens of any vocabulary."""
MAX_LAYERS = 1_000
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
    if isinstance(config, dict):
        for key, value in config.items():
            check_numbers(value, shown, str(key))
    elif isinstance(config, list):
        for value in config:
            check_numbers(value, shown, name)
    elif isinstance(config, int):
        limit = MAX_LAYERS if any(part in name for part in _LAYERS) else MAX_NUMBER
        if abs(config) > limit:
            raise RecipeError(
                f"{shown!r} sets {name} to {config}; the largest number there is {limit:,}",
                fix="Download the file again from where the model was published",
            )


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


@contextmanager
def without_hub() -> Iterator[None]:
    """Let nothing be downloaded meanwhile, whatever a configuration names."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
