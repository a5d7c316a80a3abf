"""Comparisons of `benchmarks.gpu` on models: the forward pass alone, and embed around it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from benchmarks.gpu_sides import Comparison, Machine
from curation.media.encoders.encoder import Encoder, Normalised, bicubic_crop
from curation.media.encoders.forward import BatchEncoder, prefetch

BATCH, SIDE, THREADS = 256, 224, 16
CONFIG = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DISTINCT = 64
"""Different pictures; their files are decoded again and again."""


def embeddings(sizes: dict[str, Any], dim: int, machine: Machine) -> Iterator[Comparison]:
    """Yield the comparison of each model. Its vectors have the model's own dimension."""
    pictures = _jpegs()
    for name in sizes["models"]:
        yield _embedding(name, pictures, sizes["pictures"], machine)


def _embedding(name: str, pictures: list[torch.Tensor], count: int, machine: Machine) -> Comparison:
    encoder, flop = _encoder(name, machine)
    batch = min(BATCH, count)
    pixels = torch.randint(0, 255, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
    on_device = pixels.to(machine.device)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(-(-count // batch)):
                features = encoder.model(on_device)
        features.float().cpu()

    def from_memory() -> None:
        _encode(encoder, (pixels[n % batch] for n in range(count)), count, batch, machine)

    def from_files() -> None:
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            files = (pictures[n % len(pictures)] for n in range(count))
            ready = prefetch(pool, _decode, files, 2 * batch)
            _encode(encoder, ready, count, batch, machine)

    sides: dict[str, Callable[[], object]] = {
        "the forward pass alone": forward,
        "ours, inputs in memory": from_memory,
        "ours, from JPEG files": from_files,
    }
    title = (
        f"**embed**: {name}, {SIDE} px, bf16, {count:,} pictures in batches of {batch}; the share of "
        "the peak is the model's FLOP utilisation"
    )
    return Comparison(title, flop * count, sides)


def _encode(
    encoder: Encoder, inputs: Iterator[torch.Tensor], count: int, batch: int, machine: Machine
) -> None:
    batches = BatchEncoder(encoder, count, batch, str(machine.device))
    for number, tensor in enumerate(inputs):
        batches.add(number, tensor)
    batches.finish()


def _encoder(name: str, machine: Machine) -> tuple[Encoder, float]:
    """Return a model with random weights as the project's encoder, and its operations per picture."""
    options: dict[str, Any] = {"pretrained": False, "num_classes": 0, "img_size": SIDE}
    with torch.device("meta"):
        skeleton: Any = timm.create_model(name, **options)
        picture = torch.zeros(1, 3, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter:
        skeleton.eval()(picture)
    torch.manual_seed(0)
    model: Any = timm.create_model(name, **options)
    normalised = Normalised(model, CONFIG, "bf16").eval().to(machine.device).requires_grad_(False)
    blank = torch.zeros((3, SIDE, SIDE), dtype=torch.uint8)
    encoder = Encoder(normalised, _decode, blank, int(model.num_features), {"model": name})
    return encoder, float(counter.get_total_flops())


def _decode(file: torch.Tensor) -> torch.Tensor:
    """Decode, resize and crop a JPEG as embed does, by the decoder of torchvision."""
    image = decode_jpeg(file, ImageReadMode.RGB).permute(1, 2, 0).numpy()
    return bicubic_crop(image, [256], SIDE)


def _jpegs() -> list[torch.Tensor]:
    """Return JPEG files of 500 x 375 pixels with about as much detail as photographs."""
    made = torch.Generator().manual_seed(0)
    files = []
    for _ in range(DISTINCT):
        small = torch.rand(1, 3, 47, 63, generator=made)
        large = torch.nn.functional.interpolate(small, (375, 500), mode="bicubic").clamp(0, 1)
        files.append(encode_jpeg((255 * large[0]).to(torch.uint8), quality=90))
    return files
