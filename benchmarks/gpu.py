"""What a GPU does in cluster, assign, near joins, match and embed, beside FAISS and plain torch loops.

    benchmarks/gpu.sh                        # on a machine with a GPU; see --minutes
    benchmarks/gpu.sh --device cpu --tiny    # the same code on small sizes; its figures mean nothing

It needs torch, torchvision, numpy, pyarrow and timm, and no Spark. FAISS takes part if its GPU build is
installed, and the tests marked `gpu` run if pytest and hypothesis are. Nothing is downloaded: vectors,
pictures and weights are random. All sides of a comparison run in turn, three times; medians count. On a
GPU the results are written to benchmarks/results/gpu.md.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_models, gpu_vectors
from benchmarks.command import ROOT, parse, parser_of
from benchmarks.gpu_sides import Comparison, Machine
from benchmarks.machine import conditions

TESTS = (
    "tests/kmeans/test_lloyd.py",
    "tests/kmeans/test_nearest.py",
    "tests/knn/test_device_memory.py",
    "tests/knn/test_screened.py",
)
"""Tests marked `gpu` that need no more than this script does."""
OPTIONS = ("-o", "addopts=", "-q", "-m", "gpu", "-p", "no:cacheprovider")
"""The options of the project refuse settings of plug-ins that are not loaded. None is needed."""
FULL: dict[str, Any] = {
    "rounds": 3,
    "points": 1_000_000,
    "clusters": [4096, 65_536],
    "iterations": 2,
    "rows": 100_000,
    "queries": 20_000,
    "fragments": 10,
    "pictures": 4096,
    "models": ["vit_base_patch14_dinov2", "vit_large_patch14_dinov2"],
}
TINY: dict[str, Any] = {
    "rounds": 1,
    "points": 3000,
    "clusters": [64],
    "iterations": 1,
    "rows": 1500,
    "queries": 100,
    "fragments": 2,
    "pictures": 20,
    "models": ["test_vit"],
}


def run_tests() -> str:
    """Run the tests marked `gpu`, and return the last line of their report."""
    missing = [name for name in ("pytest", "hypothesis") if find_spec(name) is None]
    if missing:
        return f"Tests marked `gpu`: not run, because {missing[0]} is not installed."
    command = (sys.executable, "-m", "pytest", *OPTIONS, *TESTS)
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    failed = "" if done.returncode == 0 else f" (exit status {done.returncode})"
    return f"Tests marked `gpu` (`{' '.join(command[1:])}`): {lines[-1].strip('= ')}{failed}."


def table(comparison: Comparison, seconds: dict[str, list[float]], machine: Machine) -> list[str]:
    """Return the rows of a comparison in Markdown."""
    lines = [
        f"\n{comparison.title}\n",
        "| side | seconds (median; all) | TFLOP/s | share of the peak | checked |",
        "|---|---|---|---|---|",
    ]
    for name, side_seconds in seconds.items():
        median = statistics.median(side_seconds)
        listed = ", ".join(f"{value:.3f}" for value in side_seconds)
        rate = comparison.flop / median
        lines.append(
            f"| {name} | {median:.3f} ({listed}) | {rate / 1e12:.1f} | "
            f"{rate / machine.peak:.3f} | {comparison.checks.get(name, '')} |"
        )
    if "ours" in seconds:
        ours = statistics.median(seconds["ours"])
        ratios = [
            f"{name} {statistics.median(side) / ours:.2f}"
            for name, side in seconds.items()
            if name != "ours"
        ]
        lines.append(f"\nTheir median over ours: {', '.join(ratios)}.")
    return lines


def run_in_turn(comparison: Comparison, rounds: int, machine: Machine) -> dict[str, list[float]]:
    """Run the sides of a comparison in turn; return the seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in comparison.sides}
    for side in comparison.sides.values():
        side()  # compiles kernels and fills pools of memory
    for _ in range(rounds):
        for name, side in comparison.sides.items():
            machine.wait()
            started = time.perf_counter()
            side()
            machine.wait()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--device", help="default: cuda; cpu for a tiny run without a GPU")
    parser.add_argument(
        "--minutes", type=float, default=7.5, help="no comparison begins after them"
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu.md on a GPU")
    parser.add_argument("--dim", type=int, default=1024)
    options = parse(parser, {"dim": 64})
    has_gpu = torch.cuda.is_available()
    device = options.device or ("cpu" if options.tiny and not has_gpu else "cuda")
    if device != "cpu" and not has_gpu:
        raise SystemExit(
            f"torch sees no GPU for --device {device}. On a machine without one: "
            "benchmarks/gpu.sh --device cpu --tiny"
        )
    started = time.monotonic()
    machine = Machine.of(device)
    sizes = TINY if options.tiny else FULL
    lines = [
        "# What a GPU does\n",
        f"{machine.name} · {conditions()}",
        machine.rates(),
        f"Sizes: {', '.join(f'{name} {value}' for name, value in sizes.items())}, {options.dim} "
        "dimensions. Sides run in turn; medians count.",
        "No tests." if options.tiny else run_tests(),
    ]
    print("\n".join(lines), flush=True)
    for comparison in comparisons(sizes, options.dim, machine):
        if time.monotonic() > started + 60 * options.minutes:
            text = [
                f"\n{comparison.title}: not run, because {options.minutes:g} minutes had passed."
            ]
        else:
            seconds = run_in_turn(comparison, sizes["rounds"], machine)
            text = table(comparison, seconds, machine)
        print("\n".join(text), flush=True)
        lines += text
    out = options.out or (None if device == "cpu" else ROOT / "benchmarks/results/gpu.md")
    if out is not None:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def comparisons(sizes: dict[str, Any], dim: int, machine: Machine) -> Iterator[Comparison]:
    """Yield all comparisons; the vectors and models of each are made when it is reached."""
    makers: list[Callable[..., Iterator[Comparison]]] = [
        gpu_vectors.clusterings,
        gpu_vectors.joins,
        gpu_vectors.matches,
        gpu_models.embeddings,
    ]
    for maker in makers:
        yield from maker(sizes, dim, machine)


if __name__ == "__main__":
    main()
