"""What an encoder is, and how a recipe's spec becomes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from curation.engine.device import CPU
from curation.errors import RecipeError
from curation.media.encoders import ENCODERS
from curation.media.encoders.checksum import checked_sha256
from curation.media.encoders.params import Checkpoint, EncoderSpec

FEW = 8
"""Convolutions that a transformer may have."""


@dataclass(frozen=True)
class Encoder:
    """A loaded model with its own preprocessing.

    `preprocess` turns what is embedded, an RGB picture or a caption, into a tensor like `blank`, which
    fills up a batch: (3, side, side) uint8 or (length,) int64. `model` turns a batch of them into
    features (n, dim). `identity` is what tells its vectors from others'.
    """

    model: torch.nn.Module
    preprocess: Callable[[Any], torch.Tensor]
    blank: torch.Tensor
    dim: int
    identity: dict[str, Any]


@lru_cache(maxsize=4)
def load_encoder(spec: EncoderSpec, device: str) -> Encoder:
    """Load the encoder of a spec on a device, once a process.

    Raises:
        RecipeError: no such model or weights; the message says where to put them.
    """
    name = spec.model.partition("/")[2]
    encoder: Encoder = ENCODERS.load(spec.family).load(name, spec)
    encoder.model.eval().to(device).requires_grad_(False)
    if device == CPU:
        by_pixel(encoder.model)
    return encoder


def by_pixel(model: torch.nn.Module) -> None:
    """Lay a convolutional model out with the channels of a pixel side by side, for processors.

    Without that ResNet-50 takes 1.4 times as long (benchmarks/results/embed.md); transformers, which
    have a convolution or a few, gain nothing.
    """
    convolutions = [part for part in model.modules() if isinstance(part, torch.nn.Conv2d)]
    if len(convolutions) > FEW:
        for part in convolutions:
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def preprocessing(config: dict[str, Any], spec: EncoderSpec) -> dict[str, Any]:
    """Return a timm data config with what the spec overrides; it always has a crop mode."""
    given = {
        "mean": spec.mean,
        "std": spec.std,
        "crop_pct": spec.crop_pct,
        "crop_mode": spec.crop_mode,
        "interpolation": spec.interpolation,
        "input_size": None if spec.input_size is None else (3, spec.input_size, spec.input_size),
    }
    own = {"crop_mode": "center"} | config
    return own | {k: v for k, v in given.items() if v is not None}


def no_picture(config: dict[str, Any]) -> torch.Tensor:
    """Return what fills up a batch of pictures: zeros (3, side, side), uint8."""
    return torch.zeros(config["input_size"], dtype=torch.uint8)


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Normalised(torch.nn.Module):
    """A model of pictures that takes their bytes: what is normalised where the model is, at a quarter
    of the bytes to carry there."""

    def __init__(
        self, model: torch.nn.Module, config: dict[str, Any], precision: str = "fp32"
    ) -> None:
        super().__init__()
        self.kind = PRECISIONS[precision]
        self.model = model.to(self.kind)
        mean, std = (torch.tensor(config[name]).reshape(3, 1, 1) for name in ("mean", "std"))
        self.shift: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("shift", 255 * mean)
        self.register_buffer("scale", 1 / (255 * std))

    def forward(self, pixels: torch.Tensor) -> Any:
        """Pictures (n, 3, side, side) uint8 to what the model makes of them."""
        if pixels.device.type != "cpu":
            return self.model(self._normal(pixels.float()).to(self.kind))
        normal = torch.empty(pixels.shape, dtype=self.kind)
        for number, picture in enumerate(pixels):
            # One by one they stay in the cache, which is twenty times as fast.
            normal[number] = self._normal(picture.float())
        return self.model(normal)

    def _normal(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.sub_(self.shift).mul_(self.scale)


def build_transform(config: dict[str, Any]) -> Callable[[Any], torch.Tensor]:
    """Return what timm's evaluation transform does of a data config: resize, crop, to bytes (3, side,
    side)."""
    side = int(config["input_size"][1])
    if config["crop_mode"] == "squash":
        return shaping([side, side], side, config["interpolation"])
    if config["crop_mode"] != "center":
        from timm.data.transforms_factory import create_transform

        names = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")
        given = {name: config[name] for name in names}
        # use_prefetcher: bytes, not normalised numbers.
        whole: Any = create_transform(is_training=False, use_prefetcher=True, **given)
        return lambda picture: whole(pillow(picture))
    return shaping([math.floor(side / config["crop_pct"])], side, config["interpolation"])


def shaping(size: list[int], side: int, interpolation: str) -> Callable[[Any], torch.Tensor]:
    """Return what resizes an RGB picture and cuts out its middle, to bytes (3, side, side).

    torch resizes bytes several times as fast as Pillow; its values differ by at most 2 of 255, and that
    rarely.

    Args:
        size: of the shorter side, or of both sides.
        side: of what is cut out.
        interpolation: as timm calls it.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    how = InterpolationMode(interpolation)

    def shaped(picture: Any) -> torch.Tensor:
        # Tensors know no Lanczos.
        given = pillow(picture) if how is InterpolationMode.LANCZOS else as_tensor(picture)
        resized = functional.resize(given, size, interpolation=how, antialias=True)
        cut = functional.center_crop(resized, [side, side])
        found: torch.Tensor = (
            cut if isinstance(cut, torch.Tensor) else functional.pil_to_tensor(cut)
        )
        return found

    return shaped


def pillow(picture: Any) -> Any:
    """Return an RGB picture as Pillow has it."""
    return Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture


def as_tensor(picture: Any) -> torch.Tensor:
    """Return an RGB picture as bytes (3, height, width), the colours of a pixel side by side."""
    pixels = picture if isinstance(picture, np.ndarray) else np.array(picture)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def at_precision(identity: dict[str, Any], spec: EncoderSpec) -> dict[str, Any]:
    """Return an identity that tells the precision, where it is not the usual one."""
    return identity if spec.precision == "fp32" else identity | {"precision": spec.precision}


def identity_of(
    architecture: str, weights: str, dim: int, config: dict[str, Any]
) -> dict[str, Any]:
    """Return what tells the vectors of one encoder from those of another."""
    keys = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")
    return {
        "architecture": architecture,
        "weights_sha256": weights,
        "dim": dim,
        "preprocessing": {k: _plain(config[k]) for k in keys},
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def read_weights(
    path: str, sha256: str | None = None, checkpoint: Checkpoint | None = None
) -> tuple[dict[str, torch.Tensor], str]:
    """Return the tensors of a weights file, under the names that `checkpoint` gives, and its SHA-256.

    Raises:
        RecipeError: no such file, another SHA-256 than is given, not safetensors / plain tensors, or
            not what `checkpoint` says.
    """
    file, found = Path(path), checked_sha256(path, sha256)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            # Without weights_only a pickle of a stranger's could run code.
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RecipeError(
            f"{path!r} is neither safetensors nor a state dict of plain tensors: {error}"
        ) from error
    return _renamed(state, checkpoint or Checkpoint(), path), found


def _renamed(state: Any, checkpoint: Checkpoint, path: str) -> dict[str, torch.Tensor]:
    if not isinstance(state, dict):
        raise RecipeError(
            f"{path!r} holds a {type(state).__name__}, no state dict. Save the model's state_dict()."
        )
    if checkpoint.entry is not None:
        if not isinstance(state.get(checkpoint.entry), dict):
            raise RecipeError(
                f"{path!r} has no entry {checkpoint.entry!r} with a model; it has "
                f"{_told(state)}. Mend `checkpoint.entry`."
            )
        state = state[checkpoint.entry]
    others = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise RecipeError(
            f"{path!r} is no plain state dict: {_told(others)} are no tensors. If one of them holds "
            "the model, name it under `checkpoint.entry`."
        )
    found: dict[str, torch.Tensor] = {}
    used = set()
    for name, value in state.items():
        dropped = next((start for start in checkpoint.drop if name.startswith(start)), None)
        if dropped is not None:
            used.add(dropped)
            continue
        starts = [start for start in checkpoint.rename if name.startswith(start)]
        start = max(starts, key=len, default="")
        used.update([start] if starts else [])
        own = checkpoint.rename.get(start, start) + name.removeprefix(start)
        if own in found:
            raise RecipeError(f"{path!r}: `checkpoint.rename` gives two tensors the name {own!r}.")
        found[own] = value
    unused = [start for start in (*checkpoint.drop, *checkpoint.rename) if start not in used]
    if unused:
        raise RecipeError(
            f"{path!r} has no key that begins with {_told(unused)}; its keys are {_told(state)}. Mend "
            "`checkpoint`."
        )
    return found


def _told(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - 8} more" if len(every) > 8 else ""
    return ", ".join(repr(name) for name in every[:8]) + more
