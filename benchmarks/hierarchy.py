"""Hierarchical k-means of the project beside the published algorithm, written plainly in torch.

    python -m benchmarks.hierarchy                 # 200,000 x 256, levels 2000, 200, 20

The peer follows the paper (Vo et al. 2024, section 3.2 and appendix A) step by step: k-means++ over
all points, Lloyd's iterations with a mean a cluster, resampling of the points nearest to each
centroid. Both sides get the same points, levels, rounds and iterations, and all cores. Balance is
the entropy of the sizes of the finest clusters seen from the top: of images drawn evenly over the
levels, over the planted coarse clusters, as a share of its maximum.
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

Clusters = npt.NDArray[np.int64]
DRAWN = 10_000


def peer_kmeans(points: Tensor, clusters: int, iterations: int) -> tuple[Tensor, Tensor]:
    """Return centroids (k, dim) and the cluster of each point."""
    centroids = points[torch.randint(len(points), (1,))]
    distance = ((points - centroids) ** 2).sum(dim=1)
    for _ in range(1, clusters):
        new = points[torch.multinomial(distance, 1)]
        centroids = torch.cat([centroids, new])
        distance = torch.minimum(distance, ((points - new) ** 2).sum(dim=1))
    for _ in range(iterations):
        own = peer_assign(points, centroids)
        for cluster in range(clusters):
            members = points[own == cluster]
            if len(members):
                centroids[cluster] = members.mean(dim=0)
    return centroids, peer_assign(points, centroids)


def peer_assign(points: Tensor, centroids: Tensor) -> Tensor:
    half = (centroids**2).sum(dim=1) / 2
    parts = [(part @ centroids.T - half).argmax(dim=1) for part in torch.split(points, 16_384)]
    return torch.cat(parts)


def peer(points: Vectors, levels: list[int], rounds: int, iterations: int) -> list[Clusters]:
    """Return for each level the cluster of each point of the level below."""
    torch.manual_seed(0)
    below, found = torch.from_numpy(points.astype(np.float32)), []
    for level, (clusters, above) in enumerate(zip(levels, [0, *levels], strict=False)):
        centroids, own = peer_kmeans(below, clusters, iterations)
        for _ in range(rounds - 1 if level else 0):
            nearest = max(1, -(-above // clusters // 2))
            kept = []
            for cluster in range(clusters):
                members = torch.nonzero(own == cluster)[:, 0]
                distance = ((below[members] - centroids[cluster]) ** 2).sum(dim=1)
                kept.append(members[distance.argsort()[:nearest]])
            centroids, _ = peer_kmeans(below[torch.cat(kept)], clusters, iterations)
            own = peer_assign(below, centroids)
        found.append(own.numpy())
        below = centroids
    return found


def ours(points: Vectors, levels: list[int], rounds: int, iterations: int) -> list[Clusters]:
    """Return the same of the project."""
    names = np.char.mod("%032x", np.arange(len(points))).astype("S32")
    among = seeded_order(names, 0, "start")[: init_sample_size("kmeans++", levels[0])]
    start = initial_centroids(
        points[among].astype(np.float32), names[among], "kmeans++", levels[0], 0
    )
    held = ArrayPoints(points, load_backend("torch", "cpu"))
    finest = lloyd(held, TrainingState(start), iterations, "euclidean")
    how = [Resampling(rounds, max(1, -(-b // k // 2))) for b, k in pairwise(levels)]
    plan = TrainingOptions(iterations, "euclidean", "kmeans++", 0, "faiss")
    stack = build_levels(finest, levels[1:], how, plan)
    own = held.assign(finest.centroids)
    return [own] + [np.asarray(level.parent) for level in stack[:-1]]


def balance(found: list[Clusters], truth: Clusters) -> float:
    """Return how evenly images drawn over the levels spread over planted clusters, 0 to 1."""
    sizes = [np.bincount(found[0])]
    for parent in found[1:]:
        sizes.append(np.bincount(parent[: len(sizes[-1])], weights=sizes[-1]).astype(np.int64))
    share = even_shares(sizes[-1], DRAWN, np.arange(len(sizes[-1]), dtype=np.uint64))
    for size, parent in zip(sizes[-2::-1], found[:0:-1], strict=True):
        keys = np.arange(len(size), dtype=np.uint64)
        share = even_shares_by_parent(size, parent[: len(size)].astype(np.int64), share, keys)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(truth))
    order = order[np.argsort(found[0][order], kind="stable")]
    place = np.arange(len(order)) - (np.cumsum(sizes[0]) - sizes[0])[found[0][order]]
    drawn = order[place < share[found[0][order]]]
    cells = np.bincount(truth[drawn], minlength=truth.max() + 1) / len(drawn)
    present = cells[cells > 0]
    return float(-(present * np.log(present)).sum() / np.log(len(cells)))


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
    taken = {}
    for name, side in {"ours": ours, "paper in torch": peer}.items():
        begun = time.perf_counter()
        found = side(points, options.levels, options.rounds, options.iterations)
        taken[name] = time.perf_counter() - begun
        ratio = f"{taken[name] / taken['ours']:.1f}" if name != "ours" else ""
        print(f"| {name} | {taken[name]:.1f} | {balance(found, truth):.4f} | {ratio} |", flush=True)
    print(f"\nAll points have a balance of {_evenness(truth):.4f}.")


def _evenness(truth: Clusters) -> float:
    share = np.bincount(truth) / len(truth)
    present = share[share > 0]
    return float(-(present * np.log(present)).sum() / np.log(len(share)))


if __name__ == "__main__":
    main()
