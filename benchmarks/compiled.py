"""The forward pass of a model: unchanged, with channels_last, and compiled.

    python -m benchmarks.compiled [--weights FILE] [--rounds 5] [--batches 4] [--only resnet]

Models are ViT-Tiny in bf16 (with --weights, or random weights), and ResNet-50 and ConvNeXt-Tiny with
random weights. The input are 64 normalised images in memory, with one thread and with two. Rounds are
interleaved: each variant runs once per round. It prints the median of images per second, its ratio to
the unchanged model, the time of the first pass (with compilation), and whether the features of an image
have the same bits in every batch.
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
Forward = Callable[[torch.Tensor], torch.Tensor]
VARIANTS = ("unchanged", "channels last", "compiled", "compiled, channels last")


def create(name: str, weights: str | None) -> torch.nn.Module:
    """Return a model without its classifier."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name, pretrained=False)
    if weights and name.startswith("vit_tiny"):
        model.load_state_dict(load_file(weights))
    model.reset_classifier(0)
    return model.eval().requires_grad_(False).to(MODELS[name])


def variants(name: str, weights: str | None) -> dict[str, tuple[Forward, float]]:
    """Return each variant of a model, and the seconds of its first forward pass."""
    pixels = torch.zeros(BATCH, 3, 224, 224, dtype=MODELS[name])
    by_name: dict[str, tuple[Forward, float]] = {}
    for variant in VARIANTS:
        model = create(name, weights)
        channels_last = "channels last" in variant
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        call: Any = torch.compile(model) if "compiled" in variant else model

        def run(pixels: torch.Tensor, call: Any = call, last: bool = channels_last) -> torch.Tensor:
            # Images come in the default format, so converting them is part of the cost.
            return call(pixels.contiguous(memory_format=torch.channels_last) if last else pixels)

        started = time.monotonic()
        with torch.inference_mode():
            run(pixels)
        by_name[variant] = (run, time.monotonic() - started)
    return by_name


def is_reproducible(run: Forward, dtype: torch.dtype) -> bool:
    """Whether the features of eight images have the same bits in two batches, at other positions."""
    torch.manual_seed(1)
    first, second = torch.randn(2, BATCH, 3, 224, 224).to(dtype)
    second[-8:] = first[:8]
    with torch.inference_mode():
        return torch.equal(run(first)[:8], run(second)[-8:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="weights of ViT-Tiny (safetensors)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4, help="batches of 64 images per round")
    parser.add_argument("--only", default="", help="run only models whose name contains this")
    options = parser.parse_args()
    print(f"{conditions()} · batch {BATCH}, {options.rounds} rounds of {options.batches} batches")
    print(
        "| model | threads | variant | images/s (median; min to max) | ratio | first pass | same bits |"
    )
    print("|" + "---|" * 7)
    for name, dtype in MODELS.items():
        if options.only not in name:
            continue
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch._dynamo.reset()
            by_name = variants(name, options.weights)
            rates: dict[str, list[float]] = {variant: [] for variant in by_name}
            pixels = torch.randn(BATCH, 3, 224, 224).to(dtype)
            for _ in range(options.rounds):
                for variant, (run, _) in by_name.items():
                    started = time.monotonic()
                    with torch.inference_mode():
                        for _ in range(options.batches):
                            run(pixels)
                    rates[variant].append(options.batches * BATCH / (time.monotonic() - started))
            unchanged = statistics.median(rates["unchanged"])
            for variant, (run, seconds) in by_name.items():
                slowest, fastest = min(rates[variant]), max(rates[variant])
                median = statistics.median(rates[variant])
                print(
                    f"| {name}, {str(dtype).removeprefix('torch.')} | {threads} | {variant} "
                    f"| {median:.1f} ({slowest:.1f} to {fastest:.1f}) | {median / unchanged:.2f} "
                    f"| {seconds:.1f} s | {'yes' if is_reproducible(run, dtype) else 'no'} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
