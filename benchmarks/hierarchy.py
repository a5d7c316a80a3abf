"""Hierarchical k-means of the project beside a plain version of the published algorithm in torch.

    python -m benchmarks.hierarchy                 # 200,000 x 256, levels 2000, 200, 20

The peer follows the paper (Vo et al. 2024, section 3.3 and appendix A) step by step: k-means++ over
all points, Lloyd's iterations, resampling of the points nearest to each centroid. Both sides get the
same points, levels, rounds and iterations, and all cores. Balance says how evenly images that are
sampled over the levels are spread over the planted clusters: the entropy of their distribution,
divided by its maximum.
"""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from benchmarks.planted import planted
from curation.algorithms.arrays.seeded_order import seeded_order
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.balance import even_shares, even_shares_by_parent
from curation.algorithms.kmeans.hierarchy import Resampling, TrainingOptions, build_levels
from curation.algorithms.kmeans.initialisation import init_sample_size, initial_centroids
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd
from curation.algorithms.kmeans.points import ArrayPoints
from curation.engine.sorted_arrays import ranks_in_runs

Clusters = npt.NDArray[np.int64]
SAMPLE_SIZE = 10_000


def peer_kmeans(points: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
    """Return centroids (k, dim) and the cluster of each point."""
    centroids = points[torch.randint(len(points), (1,))]
    distance = ((points - centroids) ** 2).sum(dim=1)
    for _ in range(1, clusters):
        new = points[torch.multinomial(distance, 1)]
        centroids = torch.cat([centroids, new])
        distance = torch.minimum(distance, ((points - new) ** 2).sum(dim=1))
    for _ in range(iterations):
        label = peer_assign(points, centroids)
        for cluster in range(clusters):
            members = points[label == cluster]
            if len(members):
                centroids[cluster] = members.mean(dim=0)
    return centroids, peer_assign(points, centroids)


def peer_assign(points: Tensor, centroids: Tensor) -> Tensor:
    """Return the nearest centroid of each point, (n,)."""
    half = (centroids**2).sum(dim=1) / 2
    parts = [(part @ centroids.T - half).argmax(dim=1) for part in torch.split(points, 16_384)]
    return torch.cat(parts)


def peer(points: Vectors, levels: list[int], rounds: int, iterations: int) -> list[Clusters]:
    """Return for each level the cluster of each point of the level below."""
    torch.manual_seed(0)
    vectors, labels = torch.from_numpy(points.astype(np.float32)), []
    for level, (clusters, below) in enumerate(zip(levels, [0, *levels], strict=False)):
        centroids, label = peer_kmeans(vectors, clusters, iterations)
        for _ in range(rounds - 1 if level else 0):
            nearest = max(1, -(-below // clusters // 2))
            sample = []
            for cluster in range(clusters):
                members = torch.nonzero(label == cluster)[:, 0]
                distance = ((vectors[members] - centroids[cluster]) ** 2).sum(dim=1)
                sample.append(members[distance.argsort()[:nearest]])
            centroids, _ = peer_kmeans(vectors[torch.cat(sample)], clusters, iterations)
            label = peer_assign(vectors, centroids)
        labels.append(label.numpy())
        vectors = centroids
    return labels


def ours(points: Vectors, levels: list[int], rounds: int, iterations: int) -> list[Clusters]:
    """Return the same for the project."""
    ids = np.char.mod("%032x", np.arange(len(points))).astype("S32")
    sample = seeded_order(ids, 0, "start")[: init_sample_size("kmeans++", levels[0])]
    initial = initial_centroids(
        points[sample].astype(np.float32), ids[sample], "kmeans++", levels[0], 0
    )
    array_points = ArrayPoints(points, load_backend("torch", "cpu"))
    finest = lloyd(array_points, TrainingState(initial), iterations, "euclidean")
    resampling = [Resampling(rounds, max(1, -(-b // k // 2))) for b, k in pairwise(levels)]
    options = TrainingOptions(iterations, "euclidean", "kmeans++", 0, "faiss")
    trained = build_levels(finest, levels[1:], resampling, options)
    label = array_points.assign(finest.centroids)
    return [label] + [np.asarray(level.parent) for level in trained[:-1]]


def balance(labels: list[Clusters], truth: Clusters) -> float:
    """Return how evenly images sampled over the levels are spread over planted clusters, 0 to 1.

    Args:
        labels: for each level the cluster of each point of the level below.
        truth: the planted cluster of each point, (n,).
    """
    sizes = [np.bincount(labels[0])]
    for parent in labels[1:]:
        sizes.append(np.bincount(parent[: len(sizes[-1])], weights=sizes[-1]).astype(np.int64))
    share = even_shares(sizes[-1], SAMPLE_SIZE, np.arange(len(sizes[-1]), dtype=np.uint64))
    for size, parent in zip(sizes[-2::-1], labels[:0:-1], strict=True):
        keys = np.arange(len(size), dtype=np.uint64)
        share = even_shares_by_parent(size, parent[: len(size)].astype(np.int64), share, keys)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(truth))
    order = order[np.argsort(labels[0][order], kind="stable")]
    label = labels[0][order]
    sample = order[ranks_in_runs(label) < share[label]]
    return _evenness(np.bincount(truth[sample], minlength=truth.max() + 1) / len(sample))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--levels", type=int, nargs="+", default=[2000, 200, 20])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=20)
    options = parse(parser, {"rows": 3000, "levels": [60, 12, 4], "rounds": 2, "iterations": 3})
    print(conditions())
    points, truth = planted(options.rows, options.dim, seed=0)
    print(f"{options.rows:,} x {options.dim}, levels {options.levels}, {options.rounds} rounds\n")
    print("| side | seconds | balance | faster by |\n|---|---|---|---|")
    seconds = {}
    for name, side in {"ours": ours, "paper in torch": peer}.items():
        started = time.perf_counter()
        labels = side(points, options.levels, options.rounds, options.iterations)
        seconds[name] = time.perf_counter() - started
        ratio = f"{seconds[name] / seconds['ours']:.1f}" if name != "ours" else ""
        even = balance(labels, truth)
        print(f"| {name} | {seconds[name]:.1f} | {even:.4f} | {ratio} |", flush=True)
    print(f"\nAll points have a balance of {_evenness(np.bincount(truth) / len(truth)):.4f}.")


def _evenness(share: npt.NDArray[np.float64]) -> float:
    """Return the entropy of a distribution, divided by its maximum."""
    present = share[share > 0]
    return float(-(present * np.log(present)).sum() / np.log(len(share)))


if __name__ == "__main__":
    main()
