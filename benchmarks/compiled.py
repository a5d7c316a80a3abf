"""The forward pass of a model: as it is, with channels last, compiled, and both.

    python -m benchmarks.compiled [--weights FILE] [--rounds 5] [--batches 4] [--only resnet]

The models are ViT-Tiny in bf16 (its weights are those of --weights, or random), and ResNet-50 and
ConvNeXt-Tiny with random weights. The input is 64 normalised pictures in memory; one thread and two are
measured. Each round runs every side once. The table has the median of images per second, its ratio to
the model as it is, and the time of the first pass, which compiles. It also says whether the features of
a picture have the same bits in every batch.
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
    """The precision of a model, and the width of its square input in pixels."""

    dtype: torch.dtype
    width: int


MODELS = {
    "vit_tiny_patch16_224": Model(torch.bfloat16, 224),
    "resnet50": Model(torch.float32, 224),
    "convnext_tiny": Model(torch.float32, 224),
}
TINY_MODELS = {"test_vit": Model(torch.float32, 160)}
Forward = Callable[[torch.Tensor], torch.Tensor]


def build_model(name: str, weights: str | None, dtype: torch.dtype) -> torch.nn.Module:
    """Return a model without its classifier."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name, pretrained=False)
    if weights and name.startswith("vit_tiny"):
        model.load_state_dict(load_file(weights))
    model.reset_classifier(0)
    frozen: torch.nn.Module = model.eval().requires_grad_(False).to(dtype)
    return frozen


def build_sides(
    name: str, weights: str | None, pixels: torch.Tensor
) -> dict[str, tuple[Forward, float]]:
    """Return the forward pass of each side, and the seconds of its first call, on `pixels`."""
    sides: dict[str, tuple[Forward, float]] = {}
    for side in ("as it is", "channels last", "compiled", "compiled, channels last"):
        model: Any = build_model(name, weights, pixels.dtype)
        last = "channels last" in side
        if last:
            model = model.to(memory_format=torch.channels_last)
        call: Any = torch.compile(model) if "compiled" in side else model

        def forward(batch: torch.Tensor, call: Any = call, last: bool = last) -> torch.Tensor:
            # The pictures have channels first: the time includes the conversion.
            batch = batch.contiguous(memory_format=torch.channels_last) if last else batch
            features: torch.Tensor = call(batch)
            return features

        started = time.monotonic()
        with torch.inference_mode():
            forward(pixels)
        sides[side] = (forward, time.monotonic() - started)
    return sides


def is_batch_invariant(forward: Forward, pixels: torch.Tensor) -> bool:
    """Return whether eight pictures have the same features in another batch, at other positions."""
    torch.manual_seed(1)
    first, second = torch.randn(2, *pixels.shape).to(pixels.dtype)
    second[-8:] = first[:8]
    with torch.inference_mode():
        return torch.equal(forward(first)[:8], forward(second)[-8:])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", help="of ViT-Tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4, help="of each round")
    parser.add_argument("--batch", type=int, default=64, help="pictures per batch")
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
    for name, (dtype, width) in (TINY_MODELS if options.tiny else MODELS).items():
        if options.only not in name:
            continue
        for threads in options.threads:
            torch.set_num_threads(threads)
            torch._dynamo.reset()
            pixels = torch.randn(options.batch, 3, width, width).to(dtype)
            sides = build_sides(name, options.weights, torch.zeros_like(pixels))
            rates: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(options.rounds):
                for side, (forward, _) in sides.items():
                    started = time.monotonic()
                    with torch.inference_mode():
                        for _ in range(options.batches):
                            forward(pixels)
                    seconds = time.monotonic() - started
                    rates[side].append(options.batches * options.batch / seconds)
            baseline = statistics.median(rates["as it is"])
            precision = str(dtype).removeprefix("torch.")
            for side, (forward, first_pass) in sides.items():
                median = statistics.median(rates[side])
                print(
                    f"| {name}, {precision} | {threads} | {side} | {median:.1f} "
                    f"({min(rates[side]):.1f} to {max(rates[side]):.1f}) "
                    f"| {median / baseline:.2f} | {first_pass:.1f} s | "
                    f"{'yes' if is_batch_invariant(forward, pixels) else 'no'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
