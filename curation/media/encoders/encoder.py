"""Encoders: a model with its preprocessing, loaded from the spec of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from curation.engine.device import CPU
from curation.engine.shipped_files import local_path
from curation.media.encoders import ENCODERS
from curation.media.files.file_cache import cached_by_file

if TYPE_CHECKING:
    from curation.media.encoders.params import EncoderSpec

MAX_TRANSFORMER_CONVOLUTIONS = 8
"""Models with more convolutions count as convolutional networks."""


@dataclass(frozen=True)
class Encoder:
    """A loaded model with its own preprocessing.

    Attributes:
        model: turns a batch of inputs into features (n, dim).
        preprocess: turns an RGB image into an input, uint8 (3, side, side), or a caption into tokens,
            int64 (length,).
        blank: an input without content, which fills up incomplete batches.
        dim: dimension of the vectors.
        identity: architecture, weights and preprocessing; vectors are comparable if it is equal.
        cpu_rows: inputs of one call of the model on a CPU, whose activations then stay in the cache;
            None for a whole batch. Features must be the same bits either way.
    """

    model: torch.nn.Module
    preprocess: Callable[[Any], torch.Tensor]
    blank: torch.Tensor
    dim: int
    identity: dict[str, Any]
    cpu_rows: int | None = None


@cached_by_file(lambda spec, device: spec.weights, maxsize=4)
def load_encoder(spec: EncoderSpec, device: str) -> Encoder:
    """Load the encoder of a spec on a device, once per process.

    Raises:
        RecipeError: the model or its weights are missing or invalid.
    """
    name = spec.model.partition("/")[2]
    if spec.weights is not None:
        spec = spec.model_copy(update={"weights": local_path(spec.weights)})
    encoder: Encoder = ENCODERS.load(spec.family).load(name, spec)
    encoder.model.eval().to(device).requires_grad_(False)
    if device == CPU:
        use_channels_last(encoder.model)
    return encoder


def use_channels_last(model: torch.nn.Module) -> None:
    """Store the weights of a convolutional network in the memory format channels_last, for CPUs.

    In the default format ResNet-50 takes 1.4 times as long (benchmarks/results/embed.md). Transformers
    have few convolutions and gain nothing, so they are not changed.
    """
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    if len(convolutions) > MAX_TRANSFORMER_CONVOLUTIONS:
        for module in convolutions:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def override_config(config: dict[str, Any], spec: EncoderSpec) -> dict[str, Any]:
    """Return a data config of timm with the values that the spec overrides, and a crop mode."""
    overrides = {
        "mean": spec.mean,
        "std": spec.std,
        "crop_pct": spec.crop_pct,
        "crop_mode": spec.crop_mode,
        "interpolation": spec.interpolation,
        "input_size": None if spec.input_size is None else (3, spec.input_size, spec.input_size),
    }
    with_crop_mode = {"crop_mode": "center"} | config
    return with_crop_mode | {k: v for k, v in overrides.items() if v is not None}


def blank_image(config: dict[str, Any]) -> torch.Tensor:
    """Return an input without content: zeros, uint8 (3, side, side)."""
    return torch.zeros(config["input_size"], dtype=torch.uint8)


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Normalised(torch.nn.Module):
    """A model of images with the normalisation of its input.

    Its input are bytes, so that a quarter of the data is copied to the device.

    Args:
        model: takes normalised images (n, 3, side, side).
        config: gives mean and standard deviation.
        precision: a key of PRECISIONS.
    """

    def __init__(
        self, model: torch.nn.Module, config: dict[str, Any], precision: str = "fp32"
    ) -> None:
        super().__init__()
        self.dtype = PRECISIONS[precision]
        self.model = model.to(self.dtype)
        mean, std = (torch.tensor(config[name]).reshape(3, 1, 1) for name in ("mean", "std"))
        self.shift: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("shift", 255 * mean)
        self.register_buffer("scale", 1 / (255 * std))

    def forward(self, pixels: torch.Tensor) -> Any:
        """Return the features of images, uint8 (n, 3, side, side)."""
        if pixels.device.type != "cpu":
            return self.model(self._normalise(pixels.float()).to(self.dtype))
        normalised = torch.empty(pixels.shape, dtype=self.dtype)
        for number, image in enumerate(pixels):
            # A single image stays in the cache, which is twenty times as fast.
            normalised[number] = self._normalise(image.float())
        return self.model(normalised)

    def _normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.sub_(self.shift).mul_(self.scale)


MAX_RESIZED_PIXELS = 2**26
"""Pixels of a resized picture, of which the middle is cropped."""
CONFIG_KEYS = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")
"""Keys of timm's data config that define the preprocessing."""


def image_transform(config: dict[str, Any]) -> Callable[[Any], torch.Tensor]:
    """Return the evaluation transform of a data config of timm, without its normalisation.

    It resizes and crops an RGB image, and returns uint8 (3, side, side).
    """
    side = int(config["input_size"][1])
    if config["crop_mode"] == "squash":
        return resize_and_crop([side, side], side, config["interpolation"])
    if config["crop_mode"] != "center":
        from timm.data.transforms_factory import create_transform

        options = {key: config[key] for key in CONFIG_KEYS}
        # With use_prefetcher, timm returns bytes that are not normalised.
        transform: Any = create_transform(is_training=False, use_prefetcher=True, **options)
        return lambda image: transform(to_pillow(image))
    shorter_side = math.floor(side / config["crop_pct"])
    return resize_and_crop([shorter_side], side, config["interpolation"])


def resize_and_crop(
    size: list[int], side: int, interpolation: str
) -> Callable[[Any], torch.Tensor]:
    """Return a transform that resizes an RGB image and crops its centre, to uint8 (3, side, side).

    torch resizes bytes several times as fast as Pillow; few values differ, by at most 2 of 255.

    Args:
        size: length of the shorter side, or height and width, in pixels; at least `side`.
        side: side of the crop in pixels.
        interpolation: name of the interpolation in timm.
    """
    crop = (
        partial(bicubic_crop, size=size, side=side)
        if interpolation == "bicubic" and min(size) >= side
        else _crop_by_torchvision(size, side, interpolation)
    )
    return crop if len(size) > 1 else lambda image: crop(_shortened(image, size[0]))


def _shortened(image: Any, shorter: int) -> Any:
    """Return the middle of an image that would be resized to more than MAX_RESIZED_PIXELS.

    Only its middle is cropped, and a picture of 65,000 by 1 pixels would take gigabytes.

    Args:
        image: RGB, an array or an image of Pillow.
        shorter: side to which the shorter side is resized.
    """
    width, height = image.shape[1::-1] if isinstance(image, np.ndarray) else image.size
    short, long = sorted((width, height))
    kept = max(short, MAX_RESIZED_PIXELS * short // shorter**2)
    start = (long - kept) // 2
    if start <= 0:
        return image
    left, top = (start, 0) if width > height else (0, start)
    right, bottom = width - left, height - top
    if isinstance(image, np.ndarray):
        return image[top:bottom, left:right]
    return image.crop((left, top, right, bottom))


def bicubic_crop(image: Any, size: list[int], side: int) -> torch.Tensor:
    """Return what `_crop_by_torchvision` returns, without its import, which takes seconds.

    Args:
        image: RGB.
        size: length of the shorter side, or height and width, in pixels; at least `side`.
        side: side of the crop in pixels.
    """
    pixels = to_tensor(image)[None]
    height, width = pixels.shape[2:]
    if len(size) == 1:
        # As torchvision rounds.
        longer = int(size[0] * max(height, width) / min(height, width))
        size = [longer, size[0]] if height > width else [size[0], longer]
    if [height, width] != size:
        pixels = torch.nn.functional.interpolate(
            pixels, size, mode="bicubic", align_corners=False, antialias=True
        )
    top, left = (round((length - side) / 2) for length in size)
    return pixels[0, :, top : top + side, left : left + side]


def _crop_by_torchvision(
    size: list[int], side: int, interpolation: str
) -> Callable[[Any], torch.Tensor]:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    mode = InterpolationMode(interpolation)

    def transform(image: Any) -> torch.Tensor:
        # Tensors cannot be resized with Lanczos.
        decoded = to_pillow(image) if mode is InterpolationMode.LANCZOS else to_tensor(image)
        resized = functional.resize(decoded, size, interpolation=mode, antialias=True)
        crop = functional.center_crop(resized, [side, side])
        pixels: torch.Tensor = (
            crop if isinstance(crop, torch.Tensor) else functional.pil_to_tensor(crop)
        )
        return pixels

    return transform


def to_pillow(image: Any) -> Any:
    """Return an RGB image, an array or an image of Pillow, as an image of Pillow."""
    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def to_tensor(image: Any) -> torch.Tensor:
    """Return an RGB image as uint8 (3, height, width), stored as channels_last."""
    pixels = image if isinstance(image, np.ndarray) else np.array(image)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def with_precision(identity: dict[str, Any], spec: EncoderSpec) -> dict[str, Any]:
    """Return an identity with the precision, unless it is fp32."""
    return identity if spec.precision == "fp32" else identity | {"precision": spec.precision}


def encoder_identity(
    architecture: str, weights: str, dim: int, config: dict[str, Any]
) -> dict[str, Any]:
    """Return the identity of an encoder of images.

    Args:
        architecture: name of the model.
        weights: SHA-256 of the weights.
        dim: dimension of the vectors.
        config: data config of timm.
    """
    return {
        "architecture": architecture,
        "weights_sha256": weights,
        "dim": dim,
        "preprocessing": {key: _jsonable(config[key]) for key in CONFIG_KEYS},
    }


def _jsonable(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
