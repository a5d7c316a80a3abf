"""Make the weights of `copy_micro`: teach `vit_micro` to tell a copy from a look-alike.

    python -m training.train_copy_micro --images distill.parquet \
        --teacher vit_tiny_patch16_224.safetensors --exclude pool.parquet seeds.parquet \
        --cache CACHE --out copy_micro.safetensors

Run it from the root of the repository. SSCD's recipe (Pizzi et al. 2022, section 4): two edited
versions of a picture attract each other and repel all other pictures (InfoNCE), and a term drives
each vector away from its nearest one (Kozachenko-Leonenko entropy), so that one cosine means the same
everywhere. Batches are small on a processor, so earlier vectors stay as further pictures to be told
from (cross-batch memory, Wang et al. 2020), and a batch is made of look-alikes.
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
from training.distill_vit_micro import slope_at
from training.edits import edited
from training.optimisers import optimisers_for
from training.pictures import Pixels, Rows, decode, normalise, read_images
from training.student import Average
from training.teacher import Teacher, near_copies, unit
from training.weights import save_half

SIDE: Final = 128
"""Side of the square that a picture is pressed into for training."""
TEMPERATURE: Final = 0.05
ENTROPY: Final = 5.0
"""Weight of the entropy term (SSCD: up to 30, there over a batch of 4,096)."""
MEMORY: Final = 8192
"""Vectors of earlier batches that a batch is told from."""
ALIKE: Final = 4
"""Pictures of a group of look-alikes in a batch."""


# -- batches, drawn in a process of their own -----------------------------------------------------

_images: list[Pixels] = []


def _start(images: list[bytes]) -> None:
    cv2.setNumThreads(1)
    _images.extend(np.asarray(decode(data)) for data in images)


def _pressed(image: Pixels, side: int) -> Pixels:
    fewer = min(image.shape[:2]) > side
    how = cv2.INTER_AREA if fewer else cv2.INTER_CUBIC
    pressed = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=how)
    return np.asarray(pressed, np.uint8)


def _pairs(work: tuple[list[int], int]) -> tuple[Rows, Pixels]:
    """Two versions of each picture, [2 * B, SIDE, SIDE, 3]: one hardly edited, one strongly."""
    chosen, seed = work
    rng = np.random.default_rng(seed)
    others = [_images[int(i)] for i in rng.integers(0, len(_images), 64)]
    first = [edited(_images[i], rng, others, float(rng.choice([0.1, 0.7]))) for i in chosen]
    second = [edited(_images[i], rng, others) for i in chosen]
    versions = np.stack([_pressed(image, SIDE) for image in [*first, *second]])
    return np.array(chosen), versions


def groups(alike: Rows, size: int, rng: np.random.Generator) -> list[int]:
    """A batch of pictures: some at random, each with some of its look-alikes; none twice."""
    chosen: dict[int, None] = {}
    while len(chosen) < size:
        first = int(rng.integers(len(alike)))
        group = [first, *rng.choice(alike[first], ALIKE - 1, replace=False)]
        chosen.update(dict.fromkeys(int(i) for i in group))
    return list(chosen)[:size]


def look_alikes(vectors: np.ndarray, count: int = 12) -> Rows:
    """The nearest other pictures of each picture by the teacher's features."""
    own = torch.from_numpy(unit(vectors))
    found = [(part @ own.T).topk(count + 1).indices[:, 1:] for part in torch.split(own, 2048)]
    return torch.cat(found).numpy()


# -- the losses -----------------------------------------------------------------------------------


class Memory:
    """The latest vectors and the pictures they are of."""

    def __init__(self) -> None:
        self.vectors = functional.normalize(torch.randn(MEMORY, DIM), dim=1)
        self.pictures = torch.full((MEMORY,), -1)
        self.next = 0
        self.full = False

    def keep(self, vectors: Tensor, pictures: Tensor) -> None:
        rows = (self.next + torch.arange(len(vectors))) % MEMORY
        self.vectors[rows], self.pictures[rows] = vectors, pictures
        self.full |= self.next + len(vectors) >= MEMORY
        self.next = (self.next + len(vectors)) % MEMORY

    def seen(self) -> tuple[Tensor, Tensor]:
        """Vectors and pictures; none before the memory is full once."""
        end = MEMORY if self.full else 0
        return self.vectors[:end], self.pictures[:end]


def losses(vectors: Tensor, pictures: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """InfoNCE and entropy of unit vectors [2 * B, D] of `pictures` [B], versions one after another."""
    both = torch.cat([pictures, pictures])
    old, old_pictures = memory.seen()
    similar = vectors @ torch.cat([vectors, old]).T
    same = both[:, None] == torch.cat([both, old_pictures])[None]
    count = len(vectors)
    partner = (torch.arange(count) + count // 2) % count
    logits = similar / TEMPERATURE
    rivals = logits.masked_fill(same, -torch.inf)
    positive = logits[torch.arange(count), partner]
    contrast = (torch.logaddexp(positive, rivals.logsumexp(1)) - positive).mean()
    # Of unit vectors the distance is sqrt(2 - 2 cos); the nearest other picture's counts.
    nearest = similar.masked_fill(same, -1).amax(1)
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
    """Leave the gradients in the model; the parts of a batch run side by side, a thread each."""
    pictures = torch.from_numpy(batch[0]).chunk(parts)
    first, second = (torch.from_numpy(half).chunk(parts) for half in np.split(batch[1], 2))
    parameters = list(model.parameters())

    def work(part: int) -> tuple[Any, ...]:
        pixels = normalise(torch.cat([first[part], second[part]]))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = functional.normalize(model(pixels), dim=1)
        contrast, entropy = losses(vectors, pictures[part], memory)
        total = (contrast + ENTROPY * entropy) / parts
        return torch.autograd.grad(total, parameters), vectors.detach(), contrast, entropy

    done = list(workers.map(work, range(parts)))
    for index, value in enumerate(parameters):
        value.grad = torch.stack([own[0][index] for own in done]).sum(dim=0)
    for part, own in enumerate(done):
        memory.keep(own[1], torch.cat([pictures[part], pictures[part]]))
    return float(done[0][2]), float(done[0][3])


def batches(
    images: list[bytes], alike: Rows, options: argparse.Namespace
) -> Iterator[tuple[Rows, Pixels]]:
    """Batches without end, drawn in processes of their own."""
    rng = np.random.default_rng(options.seed)

    def work() -> Iterator[tuple[list[int], int]]:
        while True:
            yield groups(alike, options.batch, rng), int(rng.integers(2**62))

    context = multiprocessing.get_context("spawn")
    with context.Pool(options.drawers, _start, (images,)) as pool:
        waiting = [pool.apply_async(_pairs, (w,)) for w, _ in zip(work(), range(8), strict=False)]
        for item in work():
            yield waiting.pop(0).get()
            waiting.append(pool.apply_async(_pairs, (item,)))


def train(images: list[bytes], alike: Rows, options: argparse.Namespace) -> None:
    model = load_vit_micro(options.start) if options.start else load_vit_micro()
    model.train().requires_grad_(True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average, memory = Average(model, options.average), Memory()
    optimisers = optimisers_for(model, model.parameters(), options.rate)
    highest = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    workers = ThreadPoolExecutor(options.threads)
    torch.set_num_threads(1)
    started, saved, about = time.monotonic(), 0.0, {"pictures": len(images), "seed": options.seed}
    for step, batch in enumerate(batches(images, alike, options)):
        elapsed = (time.monotonic() - started) / 60
        progress = step / options.steps if options.steps else elapsed / options.minutes
        if progress >= 1:
            break
        slope = slope_at(step, progress, options.warm_up)
        for optimiser, rate in zip(optimisers, highest, strict=True):
            optimiser.param_groups[0]["lr"] = rate * slope
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
    parser.add_argument("--images", type=Path, required=True, help="Parquet with a column `image`")
    parser.add_argument("--teacher", type=Path, required=True, help="for look-alikes alone")
    parser.add_argument(
        "--exclude", type=Path, nargs="*", default=[], help="Parquet files: leave out near-copies"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder for teacher features")
    parser.add_argument("--out", type=Path, required=True, help="safetensors to write")
    parser.add_argument("--start", type=Path, help="weights to go on from; else vit_micro's")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=0, help="length, if not 0")
    parser.add_argument("--batch", type=int, default=128, help="pictures; two versions of each")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--warm-up", type=int, default=60)
    parser.add_argument("--average", type=float, default=0.995)
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--drawers", type=int, default=1, help="processes that draw batches")
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
    kept = np.flatnonzero(~near)
    print(f"{len(kept)} pictures, {int(near.sum())} left out as near-copies", flush=True)
    train([images[i] for i in kept], look_alikes(features[kept]), options)


if __name__ == "__main__":
    main()
