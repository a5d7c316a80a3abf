"""Train the weights of `vit_micro` from scratch to reproduce the features of a teacher.

    python -m training.distill_vit_micro --teacher vit_tiny_patch16_224.safetensors \
        --images distill.parquet --exclude pool.parquet seeds.parquet --cache CACHE \
        --out vit_micro.safetensors

Run it from the root of the repository. The features of the teacher (timm `vit_tiny_patch16_224`) are
computed once for each view and cached under --cache; the student is trained on these features. No
weights of the teacher are copied: the student has another architecture and starts from random weights.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from curation.media.encoders import vit_micro
from curation.media.encoders.vit_micro import VitMicro
from training.optimisers import optimisers_for
from training.pictures import SMALL_SIDE, TEACHER, Rows, read_images
from training.student import (
    LOSS_WEIGHTS,
    Distiller,
    MovingAverage,
    draw_batch,
    random_windows,
    reduced,
)
from training.teacher import Teacher, near_copies
from training.views import Views, make_views, mixed, plain
from training.weights import save_half


def backward(
    model: Distiller, batch: tuple[Tensor, ...], parts: int, workers: ThreadPoolExecutor
) -> dict[str, Tensor]:
    """Set the gradients of a batch in the model; parts of the batch run concurrently.

    Each part has one torch thread. Two threads in one convolution wait for each other in a busy loop,
    which takes six times as long on a shared machine.
    """
    parameters = list(model.parameters())

    def work(part: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        with torch.autocast(part[0].device.type, dtype=torch.bfloat16):
            losses = model(*part)
        total = torch.stack([LOSS_WEIGHTS[name] * value for name, value in losses.items()]).sum()
        return losses, torch.autograd.grad(total / parts, parameters)

    results = list(workers.map(work, zip(*(tensor.chunk(parts) for tensor in batch), strict=True)))
    for index, value in enumerate(parameters):
        value.grad = torch.stack([gradients[index] for _, gradients in results]).sum(dim=0)
    return {name: value.detach() for name, value in results[0][0].items()}


def rate_factor(step: int, progress: float, warm_up: int) -> float:
    """Return the factor on the highest learning rate: linear warm-up, then cosine decay to 1 %.

    Args:
        step: number of the step.
        progress: of the training, from 0 to 1.
        warm_up: steps of the warm-up.
    """
    return min(1.0, (step + 1) / warm_up) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    model: Distiller,
    rounds: list[tuple[Views, Rows]],
    options: argparse.Namespace,
    about: dict[str, Any],
) -> None:
    """Train for --epochs or --minutes, and save the moving average of the weights from time to time."""
    device = options.device
    model.to(device).train()
    model.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = MovingAverage(model.student, options.average)
    optimisers = optimisers_for(model.student, model.parameters(), options.rate)
    highest_rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
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
        factor = rate_factor(step, progress, options.warm_up)
        for optimiser, rate in zip(optimisers, highest_rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.zero_grad(set_to_none=True)
        batch = draw_batch(*rounds[step % len(rounds)], options.batch, rng, device)
        if options.least < 1:
            batch = random_windows(*batch, options.least, rng)
        if progress < options.small_until:
            batch = reduced(*batch)
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
            save(model.standardised(average.state), options.out, about | {"steps": step})
    about = about | {"steps": step, "minutes": round((time.monotonic() - started) / 60, 1)}
    save(model.standardised(average.state), options.out, about)


def save(state: dict[str, Tensor], out: Path, training: dict[str, Any]) -> None:
    """Save weights with the architecture, the preprocessing and the training in the metadata."""
    about = {
        "architecture": {
            "name": "vit_micro",
            "stem": list(vit_micro.STEM),
            "width": vit_micro.WIDTH,
            "depth": vit_micro.DEPTH,
            "heads": vit_micro.HEADS,
            "patch": 16,
            "dim": vit_micro.DIM,
        },
        "preprocessing": {
            "input_size": vit_micro.INPUT_SIZE,
            "crop_pct": vit_micro.CROP_PCT,
            "interpolation": vit_micro.INTERPOLATION,
            "mean": list(vit_micro.MEAN),
            "std": list(vit_micro.STD),
        },
        "training": training,
    }
    save_half(state, out, about)


def load_start(weights: Path) -> VitMicro:
    """Return the model with weights of a file; blocks that the file lacks start as the identity."""
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    model = VitMicro()
    missing, surplus = model.load_state_dict(state, strict=False)
    if surplus or not all(name.startswith("blocks.") for name in missing):
        raise SystemExit(
            f"{weights} is not a vit_micro of this width with at most {vit_micro.DEPTH} blocks. Set "
            "--start to such a file, or leave it out."
        )
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in missing and name.split(".", 2)[2] in LAST_LAYERS:
                value.zero_()
    return model


LAST_LAYERS: Final = ("project.weight", "project.bias", "mlp.2.weight", "mlp.2.bias")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--teacher", type=Path, required=True, help=f"weights of timm {TEACHER} (safetensors)"
    )
    parser.add_argument(
        "--images", type=Path, required=True, help="Parquet file with a column `image`"
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        nargs="*",
        default=[],
        help="Parquet files whose near-copies are left out",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        required=True,
        help="folder for views and features of the teacher (4 GB)",
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write (safetensors)")
    parser.add_argument(
        "--start", type=Path, help="weights to start from, with the same or fewer blocks"
    )
    parser.add_argument(
        "--views", type=int, default=4, help="views per image: the centre and random crops"
    )
    parser.add_argument(
        "--mixed", type=int, default=6, help="mixtures with other images, per image"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=30.0,
        help="duration of the training, without making the views",
    )
    parser.add_argument(
        "--epochs",
        type=float,
        default=0.0,
        help="length of the training in epochs, in place of --minutes",
    )
    parser.add_argument(
        "--small-until", type=float, default=0.5, help=f"share of the training at {SMALL_SIDE} px"
    )
    parser.add_argument(
        "--least",
        type=float,
        default=1.0,
        help="smallest side of random windows, as a share of the side of a view",
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--warm-up", type=int, default=60, help="steps of the warm-up")
    parser.add_argument(
        "--average", type=float, default=0.99, help="decay of the moving average of the weights"
    )
    parser.add_argument(
        "--save-minutes", type=float, default=4.0, help="minutes between two saves of the weights"
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
    folder = options.cache / f"views_{options.views}_{options.seed}"
    draw = plain(images, options.views, options.seed)
    views = make_views(draw, len(images), options.views, teacher, folder)
    near = np.zeros(len(images), dtype=np.bool_)
    if options.exclude:
        centres = views.cls[:: options.views].astype(np.float32)
        near = near_copies(options.images, centres, options.exclude, teacher, options.cache)
    print(f"{len(images)} images, {int(near.sum())} left out as near-copies", flush=True)
    options.pictures = len(images) - int(near.sum())
    about = {
        "teacher": TEACHER,
        "pictures": options.pictures,
        "left_out": int(near.sum()),
        "views": options.views,
        "mixed": options.mixed,
        "continued": options.start is not None,
        "batch": options.batch,
        "seed": options.seed,
    }
    rounds = [(views, np.flatnonzero(~np.repeat(near, options.views)))]
    if options.mixed:
        # Near-copies are left out of mixtures too.
        used = [image for image, is_near in zip(images, near, strict=True) if not is_near]
        folder = options.cache / f"mixed_{options.mixed}_{options.seed}"
        draw = mixed(used, options.mixed, options.seed)
        mixtures = make_views(draw, len(used), options.mixed, teacher, folder)
        rounds += [(mixtures, np.arange(len(mixtures.cls)))] * 2
    student = load_start(options.start) if options.start else VitMicro()
    model = Distiller(student, views, teacher, is_standardised=options.start is not None)
    train(model, rounds, options, about)


if __name__ == "__main__":
    main()
