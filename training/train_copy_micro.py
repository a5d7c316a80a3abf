"""Train the weights of `copy_micro`: `vit_micro` learns to distinguish copies from look-alikes.

    python -m training.train_copy_micro --images distill.parquet \
        --teacher vit_tiny_patch16_224.safetensors --exclude pool.parquet seeds.parquet \
        --cache CACHE --out copy_micro.safetensors

Run it from the root of the repository. The training follows SSCD (Pizzi et al. 2022, section 4). The
InfoNCE loss separates the two edited versions of an image from all other images. An entropy term
(Kozachenko-Leonenko) moves each vector away from its nearest neighbour, so that a cosine similarity
means the same everywhere in the space. Batches are small on a CPU, so vectors of earlier batches are
used as further negatives (cross-batch memory, Wang et al. 2020), and batches consist of look-alikes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.media.encoders.vit_micro import DIM, VitMicro, load_vit_micro
from training.distill_vit_micro import rate_factor
from training.edits import random_copy
from training.optimisers import optimisers_for
from training.pictures import Pixels, Rows, decode, normalise, read_images
from training.student import MovingAverage
from training.teacher import Teacher, near_copies, unit
from training.weights import save_half

SIDE: Final = 128
"""Side of the square that images are resized to for training, in pixels."""
TEMPERATURE: Final = 0.05
ENTROPY_WEIGHT: Final = 5.0
"""Weight of the entropy term (SSCD: up to 30, with a batch of 4,096)."""
MEMORY_SIZE: Final = 8192
"""Vectors of earlier batches that are used as negatives."""
GROUP_SIZE: Final = 4
"""Images of a group of look-alikes in a batch."""


# -- batches, made in separate processes ----------------------------------------------------------

_images: list[Pixels] = []


def _start(images: list[bytes]) -> None:
    cv2.setNumThreads(1)
    _images.extend(np.asarray(decode(data)) for data in images)


def _resize(image: Pixels, side: int) -> Pixels:
    is_larger = min(image.shape[:2]) > side
    interpolation = cv2.INTER_AREA if is_larger else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=interpolation)
    return np.asarray(resized, np.uint8)


def _pairs(work: tuple[list[int], int]) -> tuple[Rows, Pixels]:
    """Return two versions of each image, [2 * B, SIDE, SIDE, 3]: one weakly edited, one strongly."""
    numbers, seed = work
    rng = np.random.default_rng(seed)
    others = [_images[int(i)] for i in rng.integers(0, len(_images), 64)]
    first = [random_copy(_images[i], rng, others, float(rng.choice([0.1, 0.7]))) for i in numbers]
    second = [random_copy(_images[i], rng, others) for i in numbers]
    versions = np.stack([_resize(image, SIDE) for image in [*first, *second]])
    return np.array(numbers), versions


def draw_groups(neighbours: Rows, size: int, rng: np.random.Generator) -> list[int]:
    """Return a batch of different images: random ones, each with some of its look-alikes."""
    numbers: dict[int, None] = {}
    while len(numbers) < size:
        first = int(rng.integers(len(neighbours)))
        group = [first, *rng.choice(neighbours[first], GROUP_SIZE - 1, replace=False)]
        numbers.update(dict.fromkeys(int(i) for i in group))
    return list(numbers)[:size]


def look_alikes(vectors: np.ndarray, count: int = 12) -> Rows:
    """Return the nearest other images of each image by features of the teacher: [N, count]."""
    unit_vectors = torch.from_numpy(unit(vectors))
    parts = torch.split(unit_vectors, 2048)
    nearest = [(part @ unit_vectors.T).topk(count + 1).indices[:, 1:] for part in parts]
    return torch.cat(nearest).numpy()


# -- the losses -----------------------------------------------------------------------------------


class Memory:
    """The latest vectors, and the numbers of their images."""

    def __init__(self) -> None:
        self.vectors = functional.normalize(torch.randn(MEMORY_SIZE, DIM), dim=1)
        self.images = torch.full((MEMORY_SIZE,), -1)
        self.next = 0
        self.is_full = False

    def add(self, vectors: Tensor, images: Tensor) -> None:
        """Add vectors, in place of the oldest ones."""
        rows = (self.next + torch.arange(len(vectors))) % MEMORY_SIZE
        self.vectors[rows], self.images[rows] = vectors, images
        self.is_full |= self.next + len(vectors) >= MEMORY_SIZE
        self.next = (self.next + len(vectors)) % MEMORY_SIZE

    def contents(self) -> tuple[Tensor, Tensor]:
        """Return the vectors and their images; none before the memory was full once."""
        end = MEMORY_SIZE if self.is_full else 0
        return self.vectors[:end], self.images[:end]


def losses(vectors: Tensor, images: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """Return the InfoNCE loss and the entropy term of a batch.

    Args:
        vectors: unit vectors [2 * B, D]: all first versions, then all second versions.
        images: numbers of the images [B].
        memory: vectors of earlier batches.
    """
    image_of_row = torch.cat([images, images])
    old, old_images = memory.contents()
    cosines = vectors @ torch.cat([vectors, old]).T
    same = image_of_row[:, None] == torch.cat([image_of_row, old_images])[None]
    count = len(vectors)
    partner = (torch.arange(count) + count // 2) % count
    logits = cosines / TEMPERATURE
    negatives = logits.masked_fill(same, -torch.inf)
    positive = logits[torch.arange(count), partner]
    contrast = (torch.logaddexp(positive, negatives.logsumexp(1)) - positive).mean()
    # The distance of unit vectors is sqrt(2 - 2 cos); the nearest other image counts.
    nearest = cosines.masked_fill(same, -1).amax(1)
    entropy = -0.5 * torch.log((2 - 2 * nearest).clamp_min(1e-4)).mean()
    return contrast, entropy


# -- the training ---------------------------------------------------------------------------------


def backward(
    model: VitMicro,
    batch: tuple[Rows, Pixels],
    memory: Memory,
    workers: ThreadPoolExecutor,
    parts: int,
) -> tuple[float, float]:
    """Set the gradients of a batch in the model; its parts run concurrently, with one thread each."""
    images = torch.from_numpy(batch[0]).chunk(parts)
    first, second = (torch.from_numpy(half).chunk(parts) for half in np.split(batch[1], 2))
    parameters = list(model.parameters())

    def work(part: int) -> tuple[Any, ...]:
        pixels = normalise(torch.cat([first[part], second[part]]))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = functional.normalize(model(pixels), dim=1)
        contrast, entropy = losses(vectors, images[part], memory)
        total = (contrast + ENTROPY_WEIGHT * entropy) / parts
        return torch.autograd.grad(total, parameters), vectors.detach(), contrast, entropy

    results = list(workers.map(work, range(parts)))
    for index, value in enumerate(parameters):
        value.grad = torch.stack([gradients[index] for gradients, *_ in results]).sum(dim=0)
    for part, (_, vectors, *_) in enumerate(results):
        memory.add(vectors, torch.cat([images[part], images[part]]))
    return float(results[0][2]), float(results[0][3])


def batches(
    images: list[bytes], neighbours: Rows, options: argparse.Namespace
) -> Iterator[tuple[Rows, Pixels]]:
    """Yield batches without end, made in separate processes."""
    rng = np.random.default_rng(options.seed)

    def work() -> Iterator[tuple[list[int], int]]:
        while True:
            yield draw_groups(neighbours, options.batch, rng), int(rng.integers(2**62))

    context = multiprocessing.get_context("spawn")
    with context.Pool(options.drawers, _start, (images,)) as pool:
        waiting = [pool.apply_async(_pairs, (w,)) for w, _ in zip(work(), range(8), strict=False)]
        for item in work():
            yield waiting.pop(0).get()
            waiting.append(pool.apply_async(_pairs, (item,)))


def train(images: list[bytes], neighbours: Rows, options: argparse.Namespace) -> None:
    """Train for --steps or --minutes, and save the moving average of the weights from time to time."""
    model = load_vit_micro(options.start) if options.start else load_vit_micro()
    model.train().requires_grad_(True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average, memory = MovingAverage(model, options.average), Memory()
    optimisers = optimisers_for(model, model.parameters(), options.rate)
    highest_rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    workers = ThreadPoolExecutor(options.threads)
    torch.set_num_threads(1)
    started, saved, about = time.monotonic(), 0.0, {"pictures": len(images), "seed": options.seed}
    for step, batch in enumerate(batches(images, neighbours, options)):
        elapsed = (time.monotonic() - started) / 60
        progress = step / options.steps if options.steps else elapsed / options.minutes
        if progress >= 1:
            break
        factor = rate_factor(step, progress, options.warm_up)
        for optimiser, rate in zip(optimisers, highest_rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.zero_grad(set_to_none=True)
        contrast, entropy = backward(model, batch, memory, workers, options.threads)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for optimiser in optimisers:
            optimiser.step()
        average.update(model)
        if step % 25 == 0:
            print(
                f"step {step} {elapsed:.1f} min {progress:.3f} | contrast {contrast:.3f} "
                f"entropy {entropy:.3f}",
                flush=True,
            )
        if elapsed - saved > options.save_minutes:
            saved = elapsed
            save_half(average.state, options.out, {"training": about | {"steps": step}})
    about |= {"steps": step, "minutes": round(elapsed, 1)}
    save_half(average.state, options.out, {"training": about})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=Path, required=True, help="Parquet file with a column `image`"
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        required=True,
        help="weights of the model that finds look-alikes (safetensors)",
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        nargs="*",
        default=[],
        help="Parquet files whose near-copies are left out",
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder for features of the teacher"
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write (safetensors)")
    parser.add_argument("--start", type=Path, help="weights to start from (default: vit_micro)")
    parser.add_argument("--minutes", type=float, default=60.0, help="duration of the training")
    parser.add_argument(
        "--steps",
        type=int,
        default=0,
        help="length of the training in steps, in place of --minutes",
    )
    parser.add_argument(
        "--batch", type=int, default=128, help="images per batch, with two versions each"
    )
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=60)
    parser.add_argument("--average", type=float, default=0.995)
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--drawers", type=int, default=1, help="processes that make batches")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    options.cache.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(options.teacher, "cpu")
    images = read_images(options.images)
    features = teacher.embed_file(options.images, options.cache)
    near = np.zeros(len(images), dtype=np.bool_)
    if options.exclude:
        near = near_copies(options.images, features, options.exclude, teacher, options.cache)
    used = np.flatnonzero(~near)
    print(f"{len(used)} images, {int(near.sum())} left out as near-copies", flush=True)
    train([images[i] for i in used], look_alikes(features[used]), options)


if __name__ == "__main__":
    main()
