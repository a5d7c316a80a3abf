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
from training.student import LOSS_WEIGHTS, Average, Distiller, draw_batch, shifted, smaller
from training.teacher import Teacher, near_copies
from training.views import Views, make_views, mixed, plain
from training.weights import save_half


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
) -> None:
    """Train until --epochs or --minutes is over, writing the average weights as it goes."""
    device = options.device
    model.to(device).train()
    model.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(model.student, options.average)
    optimisers = optimisers_for(model.student, model.parameters(), options.rate)
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


def save(state: dict[str, Tensor], out: Path, training: dict[str, Any]) -> None:
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


def grown_from(weights: Path) -> VitMicro:
    """The model with these weights; blocks that the file lacks begin by changing nothing."""
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    model = VitMicro()
    missing, surplus = model.load_state_dict(state, strict=False)
    if surplus or not all(name.startswith("blocks.") for name in missing):
        raise SystemExit(f"{weights}: not a vit_micro of this width and at most this depth")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in missing and name.split(".", 2)[2] in LAST_OF_BRANCH:
                value.zero_()
    return model


LAST_OF_BRANCH: Final = ("project.weight", "project.bias", "mlp.2.weight", "mlp.2.bias")


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
    parser.add_argument("--start", type=Path, help="weights to go on from, of this depth or less")
    parser.add_argument(
        "--views", type=int, default=4, help="views per picture: the centre and random crops"
    )
    parser.add_argument(
        "--mixed", type=int, default=6, help="mixtures with another picture, per picture"
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
    folder = options.cache / f"views_{options.views}_{options.seed}"
    draw = plain(images, options.views, options.seed)
    views = make_views(draw, len(images), options.views, teacher, folder)
    near = np.zeros(len(images), dtype=np.bool_)
    if options.exclude:
        centres = views.cls[:: options.views].astype(np.float32)
        near = near_copies(options.images, centres, options.exclude, teacher, options.cache)
    print(f"{len(images)} pictures, {int(near.sum())} left out as near-copies", flush=True)
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
        # Only of pictures that are no near-copies, so that none of those enters by a mixture.
        far = [image for image, is_near in zip(images, near, strict=True) if not is_near]
        folder = options.cache / f"mixed_{options.mixed}_{options.seed}"
        draw = mixed(far, options.mixed, options.seed)
        mixtures = make_views(draw, len(far), options.mixed, teacher, folder)
        rounds += [(mixtures, np.arange(len(mixtures.cls)))] * 2
    student = grown_from(options.start) if options.start else VitMicro()
    model = Distiller(student, views, teacher, answers_standardised=options.start is not None)
    train(model, rounds, options, about)


if __name__ == "__main__":
    main()
