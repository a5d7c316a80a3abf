"""The frozen teacher and its features, and near-copies of the images that it is evaluated on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from training.pictures import (
    CHUNK,
    NEAR_BITS,
    NEAR_BITS_COSINE,
    NEAR_COSINE,
    TEACHER,
    TOKENS,
    Bits,
    Item,
    Result,
    Vectors,
    decode,
    dhash256,
    normalise,
    read_images,
    teacher_pixels,
)


class Teacher:
    """The frozen teacher. Its feature `cls` is forward_head(pre_logits=True), of 192 dimensions."""

    def __init__(self, weights: Path, device: str) -> None:
        self.device = device
        self.model: Any = timm.create_model(TEACHER, pretrained=False)
        self.model.load_state_dict(load_file(weights), strict=True)
        self.model.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, 192] and patches [B, TOKENS ** 2, 192] of images, uint8 [B, 224, 224, 3].

        Patches are pooled to the grid of the student.
        """
        images = normalise(pixels.to(self.device))
        with torch.autocast(self.device, dtype=torch.bfloat16):
            tokens = self.model.forward_features(images)
            cls = self.model.forward_head(tokens, pre_logits=True)
        grid = tokens[:, 1:].float().transpose(1, 2).unflatten(2, (14, 14))
        pooled = functional.interpolate(grid, TOKENS, mode="bilinear", antialias=True)
        return cls.float(), pooled.flatten(2).transpose(1, 2)

    def embed_file(self, path: Path, cache: Path | None) -> Vectors:
        """Return the features [N, 192] of the images of a Parquet file, with its own preprocessing."""
        cached = cache / f"teacher_{path.parent.name}_{path.stem}.npy" if cache else None
        if cached and cached.exists():
            features: Vectors = np.load(cached)
            return features
        result = in_batches(
            read_images(path), teacher_pixels, lambda pixels: self.features(pixels)[0]
        )
        if cached:
            np.save(cached, result)
        return result


def on_every_core(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results of independent pieces of work, in order, with one torch thread per piece.

    On a shared machine, two threads of one operation wait for each other; two operations do not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(work, items)
    finally:
        torch.set_num_threads(threads)


def in_batches(
    images: list[bytes],
    prepare: Callable[[Image.Image], npt.NDArray[Any]],
    encode: Callable[[Tensor], Tensor],
) -> Vectors:
    """Decode, preprocess and encode images; return the vectors [N, D] in their order."""

    def work(start: int) -> Vectors:
        pixels = np.stack([prepare(decode(data)) for data in images[start : start + CHUNK]])
        vectors: Vectors = encode(torch.from_numpy(pixels)).float().cpu().numpy()
        return vectors

    return np.concatenate(list(on_every_core(work, range(0, len(images), CHUNK))))


def near_copies(
    images: Path, features: Vectors, excluded: list[Path], teacher: Teacher, cache: Path
) -> Bits:
    """Return for each of `images` if an excluded file has nearly the same image: [N]."""
    others = unit(np.concatenate([teacher.embed_file(path, cache) for path in excluded]))
    vectors = unit(features)
    hashes, other_hashes = _hashes([images]), _hashes(excluded)
    near = np.zeros(len(vectors), dtype=np.bool_)
    for start in range(0, len(vectors), 1024):
        rows = slice(start, start + 1024)
        cosine = vectors[rows] @ others.T
        # Hashes are ±1, so that one matrix product gives the Hamming distances of all pairs.
        distance = (256 - hashes[rows] @ other_hashes.T) / 2
        close = (cosine >= NEAR_COSINE) | ((distance <= NEAR_BITS) & (cosine >= NEAR_BITS_COSINE))
        near[rows] = close.any(axis=1)
    return near


def unit(vectors: Vectors) -> Vectors:
    """Return vectors [N, D] of unit length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


def _hashes(paths: list[Path]) -> Vectors:
    images = [data for path in paths for data in read_images(path)]
    with ThreadPoolExecutor(2) as pool:
        bits = np.stack(list(pool.map(lambda data: dhash256(decode(data)), images)))
    return np.where(bits, np.float32(1), np.float32(-1))
