"""The forward pass alone: as it is, channels last, and compiled.

    python -m benchmarks.compiled [--weights FILE] [--rounds 5] [--batches 4] [--only resnet]

ViT-Tiny in bf16 (with --weights, else random) and ResNet-50 and ConvNeXt-Tiny with random weights, 64
normalised pictures in memory, one thread and two. Rounds are interleaved: each side once, then each
again. Prints the median of images a second, its ratio to the model as it is, what compiling took, and
whether a picture's features are the same bits whatever shares its batch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import timm
import torch
from safetensors.torch import load_file

from benchmarks.machine import conditions

BATCH = 64
MODELS = {
    "vit_tiny_patch16_224": torch.bfloat16,
    "resnet50": torch.float32,
    "convnext_tiny": torch.float32,
}
Side = Callable[[torch.Tensor], torch.Tensor]


def made(name: str, weights: str | None) -> torch.nn.Module:
    """Return a model without its classifier."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name, pretrained=False)
    if weights and name.startswith("vit_tiny"):
        model.load_state_dict(load_file(weights))
    model.reset_classifier(0)
    return model.eval().requires_grad_(False).to(MODELS[name])


def sides(name: str, weights: str | None) -> dict[str, tuple[Side, float]]:
    """Return each way of calling the model, and the seconds until its first pass was done."""
    first = torch.zeros(BATCH, 3, 224, 224, dtype=MODELS[name])
    found: dict[str, tuple[Side, float]] = {}
    for side in ("as it is", "channels last", "compiled", "compiled, channels last"):
        model = made(name, weights)
        last = "channels last" in side
        if last:
            model = model.to(memory_format=torch.channels_last)
        call: Any = torch.compile(model) if "compiled" in side else model

        def run(pixels: torch.Tensor, call: Any = call, last: bool = last) -> torch.Tensor:
            # Pictures come plane by plane; turning them is part of the price.
            given = pixels.contiguous(memory_format=torch.channels_last) if last else pixels
            return call(given)

        started = time.monotonic()
        with torch.inference_mode():
            run(first)
        found[side] = (run, time.monotonic() - started)
    return found


def keeps_bits(run: Side, kind: torch.dtype) -> bool:
    """Whether the features of eight pictures are the same bits in other company and other places."""
    torch.manual_seed(1)
    one, other = torch.randn(2, BATCH, 3, 224, 224).to(kind)
    other[-8:] = one[:8]
    with torch.inference_mode():
        return torch.equal(run(one)[:8], run(other)[-8:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="of ViT-Tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4, help="a round, of 64 pictures")
    parser.add_argument("--only", default="", help="a part of a model's name")
    options = parser.parse_args()
    print(f"{conditions()} · batch {BATCH}, {options.rounds} rounds of {options.batches} batches")
    print(
        "| model | threads | side | images/s (median; least to most) | ratio | first pass | same bits |"
    )
    print("|" + "---|" * 7)
    for name, kind in MODELS.items():
        if options.only not in name:
            continue
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch._dynamo.reset()
            every = sides(name, options.weights)
            rates: dict[str, list[float]] = {side: [] for side in every}
            pixels = torch.randn(BATCH, 3, 224, 224).to(kind)
            for _ in range(options.rounds):
                for side, (run, _) in every.items():
                    started = time.monotonic()
                    with torch.inference_mode():
                        for _ in range(options.batches):
                            run(pixels)
                    rates[side].append(options.batches * BATCH / (time.monotonic() - started))
            plain = statistics.median(rates["as it is"])
            for side, (run, seconds) in every.items():
                own = rates[side]
                median = statistics.median(own)
                print(
                    f"| {name}, {str(kind).removeprefix('torch.')} | {threads} | {side} | {median:.1f} "
                    f"({min(own):.1f} to {max(own):.1f}) | {median / plain:.2f} | {seconds:.1f} s | "
                    f"{'yes' if keeps_bits(run, kind) else 'no'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
