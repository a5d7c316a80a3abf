"""The forward pass alone: as it is, channels last, and compiled.

    python -m benchmarks.compiled [--weights FILE] [--rounds 5] [--batches 4] [--only resnet]

ViT-Tiny in bf16 (with --weights, else random) and ResNet-50 and ConvNeXt-Tiny with random weights, 64
normalised pictures in memory, one thread and two. Rounds are interleaved: each side once, then each
again. Prints the median of images a second, its ratio to the model as it is, what compiling took, and
whether a picture's features are the same bits whatever shares its batch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import timm
import torch
from safetensors.torch import load_file

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions


class Model(NamedTuple):
    """The precision of a model, and the side of its square input in pixels."""

    kind: torch.dtype
    side: int


MODELS = {
    "vit_tiny_patch16_224": Model(torch.bfloat16, 224),
    "resnet50": Model(torch.float32, 224),
    "convnext_tiny": Model(torch.float32, 224),
}
TINY_MODELS = {"test_vit": Model(torch.float32, 160)}
Side = Callable[[torch.Tensor], torch.Tensor]


def made(name: str, weights: str | None, kind: torch.dtype) -> torch.nn.Module:
    """Return a model without its classifier."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name, pretrained=False)
    if weights and name.startswith("vit_tiny"):
        model.load_state_dict(load_file(weights))
    model.reset_classifier(0)
    ready: torch.nn.Module = model.eval().requires_grad_(False).to(kind)
    return ready


def sides(name: str, weights: str | None, first: torch.Tensor) -> dict[str, tuple[Side, float]]:
    """Return each way of calling the model, and the seconds of its first pass, on pixels `first`."""
    found: dict[str, tuple[Side, float]] = {}
    for side in ("as it is", "channels last", "compiled", "compiled, channels last"):
        model: Any = made(name, weights, first.dtype)
        last = "channels last" in side
        if last:
            model = model.to(memory_format=torch.channels_last)
        call: Any = torch.compile(model) if "compiled" in side else model

        def run(pixels: torch.Tensor, call: Any = call, last: bool = last) -> torch.Tensor:
            # Pictures come plane by plane; turning them is part of the price.
            given = pixels.contiguous(memory_format=torch.channels_last) if last else pixels
            features: torch.Tensor = call(given)
            return features

        started = time.monotonic()
        with torch.inference_mode():
            run(first)
        found[side] = (run, time.monotonic() - started)
    return found


def keeps_bits(run: Side, pixels: torch.Tensor) -> bool:
    """Whether the features of eight pictures are the same bits in other company and other places."""
    torch.manual_seed(1)
    one, other = torch.randn(2, *pixels.shape).to(pixels.dtype)
    other[-8:] = one[:8]
    with torch.inference_mode():
        return torch.equal(run(one)[:8], run(other)[-8:])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", help="of ViT-Tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4, help="of each round")
    parser.add_argument("--batch", type=int, default=64, help="pictures of a batch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="a part of a model's name")
    options = parse(parser, {"rounds": 1, "batches": 1, "batch": 8, "threads": [1]})
    print(
        f"{conditions()} · batch {options.batch}, {options.rounds} rounds of {options.batches} batches"
    )
    print(
        "| model | threads | side | images/s (median; least to most) | ratio | first pass | same bits |"
    )
    print("|" + "---|" * 7)
    for name, (kind, side_px) in (TINY_MODELS if options.tiny else MODELS).items():
        if options.only not in name:
            continue
        for threads in options.threads:
            torch.set_num_threads(threads)
            torch._dynamo.reset()
            pixels = torch.randn(options.batch, 3, side_px, side_px).to(kind)
            every = sides(name, options.weights, torch.zeros_like(pixels))
            rates: dict[str, list[float]] = {side: [] for side in every}
            for _ in range(options.rounds):
                for side, (run, _) in every.items():
                    started = time.monotonic()
                    with torch.inference_mode():
                        for _ in range(options.batches):
                            run(pixels)
                    rates[side].append(
                        options.batches * options.batch / (time.monotonic() - started)
                    )
            plain = statistics.median(rates["as it is"])
            for side, (run, seconds) in every.items():
                own = rates[side]
                median = statistics.median(own)
                print(
                    f"| {name}, {str(kind).removeprefix('torch.')} | {threads} | {side} | {median:.1f} "
                    f"({min(own):.1f} to {max(own):.1f}) | {median / plain:.2f} | {seconds:.1f} s | "
                    f"{'yes' if keeps_bits(run, pixels) else 'no'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
