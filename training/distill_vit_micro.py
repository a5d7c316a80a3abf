"""Make the weights of `vit_micro`: train it from scratch to repeat a teacher's features.

    python -m training.distill_vit_micro --teacher vit_tiny_patch16_224.safetensors \
        --images distill.parquet --exclude pool.parquet seeds.parquet --cache CACHE \
        --out vit_micro.safetensors

Run it from the root of the repository. The teacher (timm `vit_tiny_patch16_224`) sees every view
once; its features are kept under --cache, and the student then trains on these alone. No weight of
the teacher is copied: the student starts from random numbers and has another architecture.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from curation.embed.encoders import vit_micro
from curation.embed.encoders.vit_micro import VitMicro, load_vit_micro

TEACHER: Final = "vit_tiny_patch16_224"
TEACHER_SIZE: Final = 224
TEACHER_RESIZE: Final = 248
SIDE: Final = vit_micro.INPUT_SIZE
TOKENS: Final = vit_micro.TOKENS_PER_SIDE
SMALL_SIDE: Final = 80
Vectors: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Bits: TypeAlias = npt.NDArray[np.bool_]
Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK: Final = 16
"""Pictures in a piece of work; small, so that a piece's activations stay in the cache."""

NEAR_COSINE: Final = 0.93
"""Teacher cosine from which two pictures count as near-copies, whatever their dHash."""
NEAR_BITS: Final = 40
"""Bits of 256 in which near-copies may differ, if their cosine is at least NEAR_BITS_COSINE."""
NEAR_BITS_COSINE: Final = 0.6


# Pictures


def decode(data: bytes) -> Image.Image:
    """Encoded bytes to an upright RGB picture."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def centre_crop(image: Image.Image, resize: int, side: int) -> Image.Image:
    """Resize the shorter side to `resize` px and cut out the central square of `side` px."""
    width, height = image.size
    scale = resize / min(width, height)
    image = image.resize(
        (max(resize, int(width * scale)), max(resize, int(height * scale))),
        Image.Resampling.BICUBIC,
    )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def student_pixels(image: Image.Image) -> Pixels:
    """A picture as the student sees it: [SIDE, SIDE, 3], 0..255."""
    return np.asarray(centre_crop(image, int(SIDE / vit_micro.CROP_PCT), SIDE))


def teacher_pixels(image: Image.Image) -> Pixels:
    """A picture as the teacher sees it: [224, 224, 3], 0..255."""
    return np.asarray(centre_crop(image, TEACHER_RESIZE, TEACHER_SIZE))


def dhash256(image: Image.Image) -> Bits:
    """Whether each pixel of a 16 x 17 grey thumbnail is darker than its right neighbour: [256]."""
    grey = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.LANCZOS), dtype=np.int16)
    result: Bits = (grey[:, 1:] > grey[:, :-1]).reshape(-1)
    return result


def read_images(path: Path) -> list[bytes]:
    """The encoded pictures of a Parquet file with a column `image`."""
    column: list[bytes] = pq.read_table(path, columns=["image"])["image"].to_pylist()
    return column


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in -1..1, as teacher and student both expect."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def random_view(image: Image.Image, kind: int, rng: random.Random) -> Pixels:
    """A view of a picture, [SIDE, SIDE, 3].

    Kind 0 is the centre, kind 1 a square cut without resampling, any other a random crop.
    """
    if kind == 0:
        return student_pixels(image)
    if kind == 1 and min(image.size) >= SIDE:
        left, top = rng.randint(0, image.width - SIDE), rng.randint(0, image.height - SIDE)
        view = image.crop((left, top, left + SIDE, top + SIDE))
    else:
        view = image.resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC, box=_random_box(image.size, rng)
        )
    if rng.random() < 0.5:
        view = ImageOps.mirror(view)
    if rng.random() < 0.8:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            view = enhance(view).enhance(rng.uniform(0.75, 1.25))
    if rng.random() < 0.3:
        view = view.filter(
            ImageFilter.UnsharpMask(radius=1, percent=rng.randint(30, 120), threshold=0)
        )
    return np.asarray(view)


def _random_box(size: tuple[int, int], rng: random.Random) -> tuple[float, float, float, float]:
    width, height = size
    area = width * height * rng.uniform(0.35, 1.0)
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    box_width, box_height = (
        min(width, math.sqrt(area * aspect)),
        min(height, math.sqrt(area / aspect)),
    )
    left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height


# Teacher


class Teacher:
    """The frozen teacher. `cls` is what it is asked for: forward_head(pre_logits=True), 192-d."""

    def __init__(self, weights: Path, device: str) -> None:
        self.device = device
        self.model: Any = timm.create_model(TEACHER, pretrained=False)
        self.model.load_state_dict(load_file(weights), strict=True)
        self.model.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, H, W, 3] to features [B, 192] and patches pooled to 7 x 7: [B, 49, 192]."""
        images = normalise(pixels.to(self.device))
        if images.shape[-1] != TEACHER_SIZE:
            images = functional.interpolate(
                images, TEACHER_SIZE, mode="bicubic", align_corners=False
            )
            images = images.clamp_(-1.0, 1.0)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            tokens = self.model.forward_features(images)
            cls = self.model.forward_head(tokens, pre_logits=True)
        grid = tokens[:, 1:].float().transpose(1, 2).unflatten(2, (2 * TOKENS, 2 * TOKENS))
        return cls.float(), functional.avg_pool2d(grid, 2).flatten(2).transpose(1, 2)

    def embed_file(self, path: Path, cache: Path | None) -> Vectors:
        """The features [N, 192] of a Parquet file's pictures, in its own preprocessing."""
        kept = cache / f"teacher_{path.parent.name}_{path.stem}.npy" if cache else None
        if kept and kept.exists():
            stored: Vectors = np.load(kept)
            return stored
        result = in_batches(
            read_images(path), teacher_pixels, lambda pixels: self.features(pixels)[0]
        )
        if kept:
            np.save(kept, result)
        return result


def on_every_core(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of independent pieces of work, in order; one torch thread for each piece.

    On a shared machine two threads of one operation wait for each other; two operations do not.
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
    """Decode, prepare and encode pictures: the vectors [N, D] in their order."""

    def work(start: int) -> Vectors:
        pixels = np.stack([prepare(decode(data)) for data in images[start : start + CHUNK]])
        vectors: Vectors = encode(torch.from_numpy(pixels)).float().cpu().numpy()
        return vectors

    return np.concatenate(list(on_every_core(work, range(0, len(images), CHUNK))))


# Near-copies of the pictures the result is judged on


def near_copies(
    images: Path, features: Vectors, excluded: list[Path], teacher: Teacher, cache: Path
) -> Bits:
    """For each of `images`, whether an excluded file holds nearly the same picture: [N]."""
    theirs = unit(np.concatenate([teacher.embed_file(path, cache) for path in excluded]))
    ours = unit(features)
    hashes, other_hashes = _hashes([images]), _hashes(excluded)
    near = np.zeros(len(ours), dtype=np.bool_)
    for start in range(0, len(ours), 1024):
        rows = slice(start, start + 1024)
        cosine = ours[rows] @ theirs.T
        # Signs multiply to +1 where bits agree: one product counts the bits of all pairs.
        distance = (256 - hashes[rows] @ other_hashes.T) / 2
        close = (cosine >= NEAR_COSINE) | ((distance <= NEAR_BITS) & (cosine >= NEAR_BITS_COSINE))
        near[rows] = close.any(axis=1)
    return near


def unit(vectors: Vectors) -> Vectors:
    """Vectors [N, D] at unit length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


def _hashes(paths: list[Path]) -> Vectors:
    images = [data for path in paths for data in read_images(path)]
    with ThreadPoolExecutor(2) as pool:
        bits = np.stack(list(pool.map(lambda data: dhash256(decode(data)), images)))
    return np.where(bits, np.float32(1), np.float32(-1))


# Views and targets


@dataclass(frozen=True)
class Views:
    """Views of the pictures with the teacher's answers; the V views of one stand together."""

    pixels: Pixels
    """[N * V, SIDE, SIDE, 3]"""
    cls: npt.NDArray[np.float16]
    """[N * V, 192]"""
    patches: npt.NDArray[np.float16]
    """[N * V, 49, 192]"""


def make_views(
    images: list[bytes], kinds: range, seed: int, teacher: Teacher, folder: Path
) -> Views:
    """Draw a view of each kind of each picture; a finished folder is used again."""
    rows = len(images) * len(kinds)
    shapes = {
        "pixels": (rows, SIDE, SIDE, 3),
        "cls": (rows, 192),
        "patches": (rows, TOKENS**2, 192),
    }
    done = folder / "done"
    mode: Any = "r" if done.exists() else "w+"
    folder.mkdir(parents=True, exist_ok=True)
    maps = {
        name: np.memmap(
            folder / name,
            dtype=np.uint8 if name == "pixels" else np.float16,
            mode=mode,
            shape=shape,
        )
        for name, shape in shapes.items()
    }
    if not done.exists():
        _fill(maps, images, kinds, seed, teacher)
        done.write_text(f"{rows}\n")
    return Views(pixels=maps["pixels"], cls=maps["cls"], patches=maps["patches"])


def _fill(
    maps: dict[str, Any], images: list[bytes], kinds: range, seed: int, teacher: Teacher
) -> None:
    count = len(kinds)

    def draw(index: int) -> list[Pixels]:
        rng = random.Random(seed * 1_000_003 + index)
        image = decode(images[index])
        return [random_view(image, kind, rng) for kind in kinds]

    def fill(start: int) -> None:
        indices = range(start, min(start + CHUNK, len(images)))
        pixels = np.stack([view for index in indices for view in draw(index)])
        cls, patches = teacher.features(torch.from_numpy(pixels))
        rows = slice(start * count, start * count + len(pixels))
        maps["pixels"][rows] = pixels
        maps["cls"][rows] = cls.cpu().numpy()
        maps["patches"][rows] = patches.cpu().numpy()

    started = time.monotonic()
    for number, _ in enumerate(on_every_core(fill, range(0, len(images), CHUNK))):
        if number % 100 == 0:
            print(
                f"views: {number * CHUNK} pictures, {time.monotonic() - started:.0f} s", flush=True
            )


# Student


class Distiller(nn.Module):
    """The student with what training alone needs: a patch head and the scale of the targets."""

    cls_mean: Tensor
    cls_std: Tensor
    patch_mean: Tensor
    patch_std: Tensor
    class_weight: Tensor
    class_bias: Tensor

    def __init__(
        self, student: VitMicro, views: Views, teacher: Teacher, answers_standardised: bool
    ) -> None:
        super().__init__()
        self.student = student
        self.patch_head = nn.Linear(vit_micro.WIDTH, 192)
        sample = slice(None, None, max(1, len(views.cls) // 20_000))
        cls = torch.from_numpy(np.asarray(views.cls[sample], dtype=np.float32))
        patches = torch.from_numpy(
            np.asarray(views.patches[sample][:4000], dtype=np.float32)
        ).flatten(0, 1)
        self.register_buffer("cls_mean", cls.mean(dim=0))
        self.register_buffer("cls_std", cls.std(dim=0))
        self.register_buffer("patch_mean", patches.mean(dim=0))
        self.register_buffer("patch_std", patches.std(dim=0))
        self.register_buffer("class_weight", teacher.model.head.weight.detach().clone())
        self.register_buffer("class_bias", teacher.model.head.bias.detach().clone())
        with torch.no_grad():
            # In training it answers in the teacher's own scale: see `packaged`.
            bias = student.head.bias if answers_standardised else torch.zeros_like(self.cls_mean)
            student.head.bias.copy_(bias * self.cls_std + self.cls_mean)
            student.head.weight.mul_(self.cls_std[:, None])

    def packaged(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The student's weights, changed so that it answers with standardised features.

        It learns the teacher's raw feature; taking away the mean and dividing by the spread of each
        of the 192 numbers retrieves better, and a linear head holds both.
        """
        weight = state["head.weight"] / self.cls_std[:, None]
        bias = (state["head.bias"] - self.cls_mean) / self.cls_std
        return state | {"head.weight": weight, "head.bias": bias}

    def forward(self, pixels: Tensor, cls: Tensor, patches: Tensor) -> dict[str, Tensor]:
        """The losses of a batch: images [B, 3, S, S], targets [B, 192] and [B, 49, 192]."""
        tokens = self.student.tokens(pixels)
        feature = self.student.embed(tokens)
        standard = (feature - self.cls_mean) / self.cls_std
        target = (cls - self.cls_mean) / self.cls_std
        dense = self.patch_head(tokens).float()
        dense_target = (patches - self.patch_mean) / self.patch_std
        return {
            "feature": functional.smooth_l1_loss(standard, target),
            "cosine": 1 - functional.cosine_similarity(standard, target).mean(),
            "raw": 1 - functional.cosine_similarity(feature, cls).mean(),
            "patch": functional.smooth_l1_loss(dense, dense_target),
            "relation": relation_loss(feature, cls),
            "classes": self._class_loss(feature, cls),
        }

    def _class_loss(self, feature: Tensor, cls: Tensor) -> Tensor:
        # The teacher's classifier weighs the directions of its feature space by what they mean.
        wanted = functional.linear(cls, self.class_weight, self.class_bias).softmax(dim=1)
        got = functional.linear(feature, self.class_weight, self.class_bias).log_softmax(dim=1)
        return functional.kl_div(got, wanted, reduction="batchmean")


LOSS_WEIGHTS: Final = {
    "feature": 1.0,
    "cosine": 1.0,
    "raw": 1.0,
    "patch": 0.5,
    "relation": 1.0,
    "classes": 0.2,
}


def relation_loss(feature: Tensor, target: Tensor, temperature: float = 0.1) -> Tensor:
    """How much the student's ranking of the batch's other pictures differs from the teacher's."""
    mask = torch.eye(len(feature), dtype=torch.bool, device=feature.device)
    logits = []
    for vectors in (feature, target):
        unit = functional.normalize(vectors.float(), dim=1)
        logits.append((unit @ unit.T / temperature).masked_fill(mask, -1e4))
    return functional.kl_div(logits[0].log_softmax(1), logits[1].softmax(1), reduction="batchmean")


class Average:
    """A running average of a model's parameters and buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def draw_batch(
    views: Views, kept: Rows, size: int, rng: np.random.Generator, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """A random batch of the kept rows: half of it mirrored, brightness and contrast varied."""
    rows = np.sort(rng.choice(kept, size, replace=False))
    pixels = normalise(torch.from_numpy(views.pixels[rows]).to(device))
    cls = torch.from_numpy(views.cls[rows]).to(device).float()
    patches = torch.from_numpy(views.patches[rows]).to(device).float()
    half = size // 2
    order = torch.from_numpy(rng.permutation(size)).to(device)
    pixels, cls, patches = pixels[order], cls[order], patches[order]
    pixels[:half] = pixels[:half].flip(3)
    # The teacher's feature hardly changes in a mirror; its patches move to the other side.
    grid = patches[:half].reshape(half, TOKENS, TOKENS, -1)
    patches[:half] = grid.flip(2).flatten(1, 2)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (size, 1, 1, 1)).astype(np.float32)).to(device)
    shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (size, 1, 1, 1)).astype(np.float32)).to(
        device
    )
    pixels = (pixels * gain + shift).contiguous(memory_format=torch.channels_last)
    return pixels, cls, patches


def shifted(
    pixels: Tensor, cls: Tensor, patches: Tensor, least: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The same batch, each picture cut to a random window of at least `least` of its side.

    The teacher's feature is that of the whole view, so it is only nearly right; but without this a
    long training learns the views by heart.
    """
    size = len(pixels)
    scale = rng.uniform(least, 1.0, (size, 1))
    place = rng.uniform(-1.0, 1.0, (size, 2)) * (1 - scale)
    theta = np.zeros((size, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = scale[:, 0]
    theta[:, :, 2] = place
    windows = torch.from_numpy(theta).to(pixels.device)
    grid = functional.affine_grid(windows, [size, 3, SIDE, SIDE], align_corners=False)
    pixels = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    tokens = patches.transpose(1, 2).reshape(size, -1, TOKENS, TOKENS)
    grid = functional.affine_grid(windows, [size, 1, TOKENS, TOKENS], align_corners=False)
    tokens = functional.grid_sample(tokens, grid, padding_mode="border", align_corners=False)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    return pixels, cls, tokens.flatten(2).transpose(1, 2)


def smaller(pixels: Tensor, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same batch at SMALL_SIDE pixels: half the work, for the first part of a training."""
    pixels = functional.interpolate(pixels, SMALL_SIDE, mode="bilinear", antialias=True)
    grid = patches.transpose(1, 2).reshape(len(patches), -1, TOKENS, TOKENS)
    grid = functional.interpolate(grid, SMALL_SIDE // 16, mode="bilinear", antialias=True)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    return pixels, cls, grid.flatten(2).transpose(1, 2)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """About the orthogonal matrix nearest to [M, N], by Newton and Schulz."""
    wide = matrix.bfloat16() if matrix.shape[0] <= matrix.shape[1] else matrix.bfloat16().T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(rounds):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    result: Tensor = wide if matrix.shape[0] <= matrix.shape[1] else wide.T
    return result


class Muon(torch.optim.Optimizer):
    """Momentum whose step for a matrix or a convolution is made orthogonal.

    The factor gives its steps about the size of AdamW's, so that one rate can scale both.
    """

    def __init__(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        super().__init__(parameters, {"lr": rate, "decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for value in group["params"]:
                state = self.state[value]
                if not state:
                    state["momentum"] = torch.zeros_like(value)
                average = state["momentum"].lerp_(value.grad, 1 - group["momentum"])
                change = value.grad.lerp(average, group["momentum"]).flatten(1)
                scale = 0.2 * math.sqrt(max(change.shape))
                value.mul_(1 - group["lr"] * group["decay"])
                value.sub_(orthogonal(change).view(value.shape), alpha=group["lr"] * scale)


def optimisers_for(model: Distiller, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner matrices, AdamW for the first and last layers, norms and biases."""
    inner = [
        value
        for name, value in model.student.named_parameters()
        if value.ndim > 1 and not name.startswith(("stem.maps.0", "head"))
    ]
    chosen = {id(value) for value in inner}
    outer = [value for value in model.parameters() if id(value) not in chosen]
    return [
        Muon(inner, 2 * rate, 0.05),
        torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
    ]


def backward(
    model: Distiller, batch: tuple[Tensor, ...], parts: int, workers: ThreadPoolExecutor
) -> dict[str, Tensor]:
    """Leave the gradients of a batch in the model; the parts of the batch run side by side.

    One torch thread each: two threads in one convolution spin while they wait for each other, which
    on a shared machine costs six times the work itself.
    """
    parameters = list(model.parameters())

    def work(part: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        with torch.autocast(part[0].device.type, dtype=torch.bfloat16):
            losses = model(*part)
        total = torch.stack([LOSS_WEIGHTS[name] * value for name, value in losses.items()]).sum()
        return losses, torch.autograd.grad(total / parts, parameters)

    done = list(workers.map(work, zip(*(tensor.chunk(parts) for tensor in batch), strict=True)))
    for index, value in enumerate(parameters):
        value.grad = torch.stack([gradients[index] for _, gradients in done]).sum(dim=0)
    return {name: value.detach() for name, value in done[0][0].items()}


def slope_at(step: int, progress: float, warm_up: int) -> float:
    """The learning rate over the highest: a short rise, then half a cosine down to 1 %."""
    return min(1.0, (step + 1) / warm_up) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    model: Distiller,
    rounds: list[tuple[Views, Rows]],
    options: argparse.Namespace,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Train until --epochs or --minutes is over, writing the average weights as it goes."""
    device = options.device
    model.to(device).train()
    model.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(model.student, options.average)
    optimisers = optimisers_for(model, options.rate)
    highest = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    rng = np.random.default_rng(options.seed)
    workers = ThreadPoolExecutor(options.threads)
    torch.set_num_threads(1)
    total = int(options.epochs * options.pictures / options.batch)
    started, step, saved = time.monotonic(), 0, 0.0
    while True:
        elapsed = (time.monotonic() - started) / 60
        progress = step / total if total else elapsed / options.minutes
        if progress >= 1:
            break
        slope = slope_at(step, progress, options.warm_up)
        for optimiser, rate in zip(optimisers, highest, strict=True):
            optimiser.param_groups[0]["lr"] = rate * slope
            optimiser.zero_grad(set_to_none=True)
        batch = draw_batch(*rounds[step % len(rounds)], options.batch, rng, device)
        if options.least < 1:
            batch = shifted(*batch, options.least, rng)
        if progress < options.small_until:
            batch = smaller(*batch)
        losses = backward(model, batch, options.threads if device == "cpu" else 1, workers)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for optimiser in optimisers:
            optimiser.step()
        average.update(model.student)
        step += 1
        if step % 25 == 0:
            parts = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"step {step} {elapsed:.1f} min {progress:.3f} | {parts}", flush=True)
        if elapsed - saved > options.save_minutes:
            saved = elapsed
            save(model.packaged(average.state), options.out, about | {"steps": step})
    about = about | {"steps": step, "minutes": round((time.monotonic() - started) / 60, 1)}
    save(model.packaged(average.state), options.out, about)
    return about


def save(state: dict[str, Tensor], out: Path, about: dict[str, Any]) -> None:
    """Write the weights as float16, with what a reader must know to use them."""
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in state.items()
    }
    metadata = {
        "format": "pt",
        "architecture": json.dumps(
            {
                "name": "vit_micro",
                "stem": list(vit_micro.STEM),
                "width": vit_micro.WIDTH,
                "depth": vit_micro.DEPTH,
                "heads": vit_micro.HEADS,
                "patch": 16,
                "dim": vit_micro.DIM,
            }
        ),
        "preprocessing": json.dumps(
            {
                "input_size": vit_micro.INPUT_SIZE,
                "crop_pct": vit_micro.CROP_PCT,
                "interpolation": vit_micro.INTERPOLATION,
                "mean": list(vit_micro.MEAN),
                "std": list(vit_micro.STD),
            }
        ),
        "training": json.dumps(about),
        "license": "Apache-2.0",
    }
    part = out.with_suffix(".part")
    save_file(half, part, metadata=metadata)
    part.replace(out)


def mean_with(first: Path, second: Path) -> dict[str, Tensor]:
    """The mean of the weights of two runs, one of which went on from the other.

    It retrieved better than the second run alone on four of web_mini's five seed sets.
    """
    ours, theirs = (load_vit_micro(path).state_dict() for path in (second, first))
    return {
        name: value.lerp(theirs[name], 0.5) if value.is_floating_point() else value
        for name, value in ours.items()
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--teacher", type=Path, required=True, help=f"safetensors of timm {TEACHER}"
    )
    parser.add_argument(
        "--images", type=Path, required=True, help="Parquet file with a column `image`"
    )
    parser.add_argument(
        "--exclude", type=Path, nargs="*", default=[], help="Parquet files: leave out near-copies"
    )
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder for views and teacher features (4 GB)"
    )
    parser.add_argument("--out", type=Path, required=True, help="safetensors to write")
    parser.add_argument(
        "--start", type=Path, help="weights to go on from; the result is the mean of both"
    )
    parser.add_argument(
        "--views", type=int, nargs="+", default=[3], help="views per picture, in rounds"
    )
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="length of the training, without the views"
    )
    parser.add_argument(
        "--epochs", type=float, default=0.0, help="length in passes over the pictures, if not 0"
    )
    parser.add_argument(
        "--small-until", type=float, default=0.5, help=f"part of the training at {SMALL_SIDE} px"
    )
    parser.add_argument(
        "--least",
        type=float,
        default=1.0,
        help="cut windows of at least this part of a view's side",
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--warm-up", type=int, default=60, help="steps")
    parser.add_argument(
        "--average", type=float, default=0.99, help="decay of the average of the weights"
    )
    parser.add_argument(
        "--save-minutes", type=float, default=4.0, help="time between intermediate weights"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.cache.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(options.teacher, options.device)
    images = read_images(options.images)
    rounds = []
    for number, count in enumerate(options.views):
        folder = options.cache / f"views_{count}_{options.seed + number}"
        kinds = range(count) if number == 0 else range(2, 2 + count)
        rounds.append(make_views(images, kinds, options.seed + number, teacher, folder))
    near = np.zeros(len(images), dtype=np.bool_)
    if options.exclude:
        centres = rounds[0].cls[:: options.views[0]].astype(np.float32)
        near = near_copies(options.images, centres, options.exclude, teacher, options.cache)
    print(f"{len(images)} pictures, {int(near.sum())} left out as near-copies", flush=True)
    options.pictures = len(images) - int(near.sum())
    about = {
        "teacher": TEACHER,
        "pictures": options.pictures,
        "left_out": int(near.sum()),
        "views": options.views,
        "continued": options.start is not None,
        "batch": options.batch,
        "seed": options.seed,
    }
    kept = [np.flatnonzero(~np.repeat(near, count)) for count in options.views]
    student = load_vit_micro(options.start) if options.start else VitMicro()
    model = Distiller(student, rounds[0], teacher, answers_standardised=options.start is not None)
    about = train(model, list(zip(rounds, kept, strict=True)), options, about)
    if options.start:
        save(mean_with(options.start, options.out), options.out, about)


if __name__ == "__main__":
    main()
