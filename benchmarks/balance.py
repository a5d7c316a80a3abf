"""How even samples are: flat and hierarchical k-means on two toy sets (Vo et al. 2024, figure 2).

    python -m benchmarks.balance --figure benchmarks/results/balance.png

`ring`: 30,000 points on a ring, dense on one side and sparse on the other. `long tail`: 30 round
clusters with 12,000 down to 30 points. From each clustering 900 points are sampled, evenly over
clusters from the coarsest level down. A sample that covers the set evenly has a Kullback-Leibler
divergence of 0 from the uniform distribution over 30 sectors of the ring, or over the 30 clusters.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.command import parse, parser_of
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.balance import even_shares, even_shares_by_parent
from curation.algorithms.kmeans.grid import round_to_grid
from curation.algorithms.kmeans.hierarchy import Level, Resampling, TrainingOptions, build_levels
from curation.algorithms.kmeans.initialisation import initial_centroids
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd
from curation.algorithms.kmeans.points import ArrayPoints
from curation.engine.sorted_arrays import ranks_in_runs

Points = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SAMPLE_SIZE = 900
CELLS = 30
POINTS = 30_000


def clusterings(share: float) -> dict[str, tuple[tuple[int, ...], int]]:
    """Return the clusterings by name: number of clusters of each level, the finest first; rounds."""
    finest, middle, top = (max(2, round(share * size)) for size in (3000, 300, 50))
    levels = f"levels {finest}, {middle}, {top}"
    return {
        f"flat, {middle}": ((middle,), 1),
        f"flat, {finest}": ((finest,), 1),
        f"{levels}, no resampling": ((finest, middle, top), 1),
        f"{levels}, resampled": ((finest, middle, top), 10),
    }


def ring(rng: np.random.Generator, share: float) -> tuple[Points, Ints]:
    """Return points (n, 2) on a ring, whose density varies by a factor of 150, and their sectors."""
    count = round(share * POINTS)
    angle = np.pi * rng.random(count) ** 4 * rng.choice([-1, 1], count)
    radius = 1 + 0.08 * rng.normal(size=count)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    sector = ((angle + np.pi) / (2 * np.pi) * CELLS).astype(np.int64).clip(0, CELLS - 1)
    return points.astype(np.float32), sector


def long_tail(rng: np.random.Generator, share: float) -> tuple[Points, Ints]:
    """Return 30 clusters on a grid, of equal width and descending size, and the cluster of each
    point."""
    sizes = np.ceil(share * np.geomspace(12_000, 30, CELLS).astype(int)).astype(int)
    cluster = np.repeat(np.arange(CELLS), sizes)
    grid = np.stack([np.arange(CELLS) % 6, np.arange(CELLS) // 6], axis=1)
    centres = grid[rng.permutation(CELLS)]
    points = centres[cluster] + 0.12 * rng.normal(size=(len(cluster), 2))
    return points.astype(np.float32), cluster


def levels_of(points: Points, sizes: tuple[int, ...], rounds: int, seed: int) -> list[Level]:
    """Return the levels of hierarchical k-means on points (n, 2)."""
    on_grid, _ = round_to_grid(points)
    ids = np.char.mod("%032x", np.arange(len(points))).astype("S32")
    initial = initial_centroids(on_grid, ids, "kmeans++", sizes[0], seed)
    array_points = ArrayPoints(on_grid, load_backend("faiss", "cpu"))
    finest = lloyd(array_points, TrainingState(initial), 50, "euclidean")
    resampling = [
        Resampling(rounds, max(1, -(-below // size // 2))) for below, size in pairwise(sizes)
    ]
    options = TrainingOptions(50, "euclidean", "kmeans++", seed, "faiss")
    return build_levels(finest, sizes[1:], resampling, options)


def sample(points: Points, levels: list[Level], count: int, rng: np.random.Generator) -> Ints:
    """Return the rows of a sample of `count` points, divided evenly from the coarsest level down."""
    on_grid, _ = round_to_grid(points)
    label = load_backend("faiss", "cpu")(on_grid).assign(levels[0].trained.centroids)
    sizes = [np.bincount(label, minlength=len(levels[0].trained.counts))]
    for level in levels[:-1]:
        assert level.parent is not None
        sizes.append(np.bincount(level.parent, weights=sizes[-1]).astype(np.int64))
    share = even_shares(sizes[-1], count, _keys(rng, sizes[-1]))
    for size, level in zip(sizes[-2::-1], levels[-2::-1], strict=True):
        assert level.parent is not None
        share = even_shares_by_parent(size, level.parent.astype(np.int64), share, _keys(rng, size))
    order = rng.permutation(len(points))
    order = order[np.argsort(label[order], kind="stable")]
    return order[ranks_in_runs(label[order]) < share[label[order]]]


def _keys(rng: np.random.Generator, sizes: Ints) -> npt.NDArray[np.uint64]:
    return rng.permutation(len(sizes)).astype(np.uint64)


def divergence(cells: Ints) -> float:
    """Return KL(sample || uniform) over the cells, in nats."""
    share = np.bincount(cells, minlength=CELLS) / len(cells)
    present = share[share > 0]
    return float((present * np.log(present * CELLS)).sum())


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--seeds", type=int, default=3, help="repeats; the mean is printed")
    parser.add_argument("--share", type=float, default=1.0, help="of the points and clusters")
    options = parse(parser, {"share": 0.05, "seeds": 1})
    mpl.use("Agg")
    compared, count = clusterings(options.share), round(options.share * SAMPLE_SIZE)
    figure, axes = plt.subplots(2, len(compared) + 1, figsize=(16, 6.6), layout="constrained")
    print("| toy set | clusters | KL from uniform |\n|---|---|---|")
    for row, (name, make) in enumerate({"ring": ring, "long tail": long_tail}.items()):
        points, cells = make(np.random.default_rng(0), options.share)
        of_all = divergence(cells)
        print(f"| {name} | all points | {of_all:.3f} |")
        _draw(axes[row, 0], points, np.arange(0, len(points), 10), f"{name}: all, KL {of_all:.2f}")
        for column, (clustering, (sizes, rounds)) in enumerate(compared.items(), start=1):
            divergences = []
            for seed in range(options.seeds):
                levels = levels_of(points, sizes, rounds, seed)
                rows = sample(points, levels, count, np.random.default_rng(seed))
                divergences.append(divergence(cells[rows]))
            mean = np.mean(divergences)
            print(f"| {name} | {clustering} | {mean:.3f} |", flush=True)
            _draw(axes[row, column], points, rows, f"{clustering}\nKL {mean:.2f}")
    if options.figure:
        figure.savefig(options.figure, dpi=80)


def _draw(axis: Axes, points: Points, rows: Ints, title: str) -> None:
    axis.scatter(points[:, 0], points[:, 1], s=0.2, color="#d5dbe3", linewidths=0)
    axis.scatter(points[rows, 0], points[rows, 1], s=2.5, color="#1f6f8b", linewidths=0)
    axis.set_title(title, fontsize=9)
    axis.set_aspect("equal")
    axis.axis("off")


if __name__ == "__main__":
    main()
