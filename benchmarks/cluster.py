"""k-means of the project beside FAISS's, on the same vectors, in one process.

    python -m benchmarks.cluster                    # 1M x 256, k = 1024 and 4096, 10 iterations
    python -m benchmarks.cluster --rows 100000 --clusters 256

All sides get all points, the same initial centroids (SuperKMeans draws its own), the same number
of iterations and all cores. They run in turn, three times; medians count. Prints the rates of large
products on this machine, seconds, the objective over all points (mean cosine similarity to the nearest
centroid, computed by the same function for all) and ratios of medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.command import parse, parser_of
from benchmarks.gpu_sides import product_rate
from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.screen_choice import has_bfloat16_instructions, screen_type
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd
from curation.algorithms.kmeans.points import ArrayPoints

Floats = npt.NDArray[np.float32]


def objective(points: Vectors, centroids: Floats) -> float:
    """Return the mean cosine similarity of points (n, dim) to their nearest centroid."""
    unit = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, len(points), 65_536):
        block = points[start : start + 65_536].astype(np.float32)
        best, _ = faiss.knn(block, unit, 1, metric=faiss.METRIC_INNER_PRODUCT)
        total += float(best.astype(np.float64).sum())
    return total / len(points)


def ours(points: Vectors, initial: Floats, iterations: int) -> Floats:
    """Return centroids of the project's k-means; its last pass only counts the points of clusters."""
    array_points = ArrayPoints(points, load_backend("torch", "cpu"))
    trained = lloyd(array_points, TrainingState(initial), iterations)
    return trained.centroids.vectors


def _faiss(
    kmeans_class: Any, points: Vectors, clusters: int, iterations: int, **options: Any
) -> Floats:
    """Return centroids of a FAISS class; the float32 copy that it needs is part of the time."""
    kmeans = kmeans_class(
        points.shape[1],
        clusters,
        niter=iterations,
        spherical=True,
        max_points_per_centroid=len(points),
    )
    kmeans.train(points.astype(np.float32), **options)
    return np.asarray(kmeans.centroids)


def faiss_kmeans(points: Vectors, initial: Floats, iterations: int) -> Floats:
    return _faiss(faiss.Kmeans, points, len(initial), iterations, init_centroids=initial)


def super_kmeans(points: Vectors, initial: Floats, iterations: int) -> Floats:
    """Return centroids of FAISS's SuperKMeans, which draws its own initial centroids."""
    untyped: Any = faiss  # its stubs do not have the class
    return _faiss(untyped.SuperKmeans, points, len(initial), iterations)


SIDES: dict[str, Callable[[Vectors, Floats, int], Floats]] = {
    "ours": ours,
    "faiss.Kmeans": faiss_kmeans,
    "faiss SuperKMeans": super_kmeans,
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--clusters", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="every side runs so often, in turn")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    options = parse(parser, {"rows": 5000, "clusters": [16], "iterations": 2, "rounds": 1})
    print(f"{conditions()}\n{rates()}")
    points = planted_vectors(options.rows, options.dim, seed=0)
    print(
        f"{options.rows:,} x {options.dim} float16, {options.iterations} iterations, spherical; "
        f"{options.rounds} rounds, sides in turn\n"
    )
    print("| k | side | seconds (median; all) | objective | ours is faster by |")
    print("|---|---|---|---|---|")
    for clusters in options.clusters:
        initial = points[:clusters].astype(np.float32)
        initial /= np.linalg.norm(initial, axis=1, keepdims=True)
        seconds: dict[str, list[float]] = {name: [] for name in options.sides}
        scores: dict[str, float] = {}
        for _ in range(options.rounds):
            for name in options.sides:
                started = time.perf_counter()
                centroids = SIDES[name](points, initial, options.iterations)
                seconds[name].append(time.perf_counter() - started)
                if name not in scores:
                    scores[name] = objective(points, centroids)
        for name in options.sides:
            print(f"| {clusters} | {name} | {row(name, seconds, scores[name])} |", flush=True)


def row(name: str, seconds: dict[str, list[float]], score: float) -> str:
    """Return the seconds of a side, its objective, and how much faster ours is by medians."""
    median = statistics.median(seconds[name])
    ratio = ""
    if name != "ours" and "ours" in seconds:
        ratio = f"{median / statistics.median(seconds['ours']):.2f}"
    listed = ", ".join(f"{value:.1f}" for value in seconds[name])
    return f"{median:.1f} ({listed}) | {score:.6f} | {ratio}"


def rates() -> str:
    """Return the rates of large products on this machine, and the screen that was chosen."""
    on = torch.device("cpu")
    listed = ", ".join(
        f"{str(kind).removeprefix('torch.')} {product_rate(on, kind, 2048) / 1e9:.0f} GFLOP/s"
        for kind in (torch.bfloat16, torch.float32)
        if kind == torch.float32 or has_bfloat16_instructions()
    )
    chosen = str(screen_type("cpu")).removeprefix("torch.")
    return f"large products: {listed}; screen: {chosen}; torch {torch.__version__}"


if __name__ == "__main__":
    main()
