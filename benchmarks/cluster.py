"""k-means of the project beside FAISS's, on the same vectors, in one process.

    python -m benchmarks.cluster                    # 1M x 256, k = 1024 and 4096, 10 iterations
    python -m benchmarks.cluster --rows 100000 --clusters 256

Both sides get all points, the same first centroids (SuperKMeans draws its own), the same number of
iterations and all cores. Prints seconds, the objective over all points (mean cosine similarity to
the nearest centroid, computed in float64 by one and the same function) and ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.screened_products import screen_type
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


def ours(points: Vectors, start: Floats, iterations: int) -> Floats:
    """Return centroids of the project's k-means, which ends with a pass that counts members."""
    held = ArrayPoints(points, load_backend("torch", "cpu"))
    trained = lloyd(held, TrainingState(start), iterations)
    return trained.centroids.vectors


def _faiss(kind: Any, points: Vectors, start: Floats, iterations: int, **more: Any) -> Floats:
    """Return centroids of a FAISS class; the float32 copy that it needs counts."""
    most = len(points)
    kmeans = kind(
        points.shape[1], len(start), niter=iterations, spherical=True, max_points_per_centroid=most
    )
    kmeans.train(points.astype(np.float32), **more)
    return np.asarray(kmeans.centroids)


def faiss_kmeans(points: Vectors, start: Floats, iterations: int) -> Floats:
    return _faiss(faiss.Kmeans, points, start, iterations, init_centroids=start)


def super_kmeans(points: Vectors, start: Floats, iterations: int) -> Floats:
    """Return centroids of FAISS's SuperKMeans, which finds its own first centroids."""
    untyped: Any = faiss  # its stubs do not have the class
    return _faiss(untyped.SuperKmeans, points, start, iterations)


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
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    options = parse(parser, {"rows": 5000, "clusters": [16], "iterations": 2})
    print(conditions())
    print(f"screen: {str(screen_type('cpu')).removeprefix('torch.')}, torch {torch.__version__}")
    points = planted_vectors(options.rows, options.dim, seed=0)
    print(f"{options.rows:,} x {options.dim} float16, {options.iterations} iterations, spherical\n")
    print("| k | side | seconds | objective | ours is faster by |\n|---|---|---|---|---|")
    for clusters in options.clusters:
        start = points[:clusters].astype(np.float32)
        start /= np.linalg.norm(start, axis=1, keepdims=True)
        taken: dict[str, float] = {}
        for name in options.sides:
            begun = time.perf_counter()
            centroids = SIDES[name](points, start, options.iterations)
            taken[name] = time.perf_counter() - begun
            ratio = f"{taken[name] / taken['ours']:.2f}" if name != "ours" else ""
            score = objective(points, centroids)
            print(
                f"| {clusters} | {name} | {taken[name]:.1f} | {score:.6f} | {ratio} |", flush=True
            )


if __name__ == "__main__":
    main()
