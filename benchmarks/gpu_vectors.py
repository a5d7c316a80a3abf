"""Comparisons of `benchmarks.gpu` on vectors: k-means, near joins, searches of fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_sides import Comparison, Halves, Machine, random_units
from curation.algorithms.arrays.nearest_pairs import QuerySteps
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.lloyd import TrainingState, lloyd, make_centroids
from curation.algorithms.kmeans.points import ArrayPoints
from curation.algorithms.knn.exact import Candidates, build_base, merge, search_steps

SAMPLE = 64
"""Results of this many points or queries are compared with float64."""
BLOCK, COLUMNS = 2**14, 2**15
"""Points, and centroids, that the plain loops multiply at once; a search multiplies a whole part of the
base. So they write no whole product either."""


def clusterings(sizes: dict[str, Any], dim: int, machine: Machine) -> Iterator[Comparison]:
    """Yield k-means and the assignment alone, for each number of clusters."""
    points = random_units(sizes["points"], dim, machine, seed=0)
    for clusters in sizes["clusters"]:
        initial = points[:clusters].astype(np.float32)
        initial /= np.linalg.norm(initial, axis=1, keepdims=True)
        yield _training(points, initial, sizes["iterations"], machine)
        yield _assignment(points, initial, machine)


def _training(points: Halves, initial: Any, iterations: int, machine: Machine) -> Comparison:
    device = str(machine.device)

    def ours() -> None:
        backend = load_backend("torch", device)
        lloyd(ArrayPoints(points, backend, device), TrainingState(initial), iterations)

    sides: dict[str, Callable[[], object]] = {
        "ours": ours,
        "plain torch loop": lambda: plain_kmeans(points, initial, iterations, machine),
    }
    if machine.has_faiss:
        sides["faiss.Kmeans"] = lambda: faiss_kmeans(points, initial, iterations, machine)
    passes = iterations + 1
    title = f"**cluster**: {_shape(points)}, k = {len(initial):,}, {passes} passes"
    return Comparison(title, 2.0 * points.size * len(initial) * passes, sides)


def _assignment(points: Halves, initial: Any, machine: Machine) -> Comparison:
    centroids = make_centroids(initial, "spherical")
    results: dict[str, Any] = {}

    def ours() -> None:
        backend = load_backend("torch", str(machine.device))
        results["ours"] = backend(points).assign(centroids)

    def plain() -> None:
        units = torch.from_numpy(initial).to(machine.device, torch.bfloat16)
        on_device = torch.from_numpy(points).to(machine.device, torch.bfloat16)
        results["plain torch loop"] = nearest(on_device, units).cpu().numpy()

    ours()
    plain()
    exact = (points[:SAMPLE].astype(np.float64) @ initial.astype(np.float64).T).argmax(axis=1)
    checks = {
        name: f"{(numbers[:SAMPLE] == exact).mean():.3f} of {SAMPLE} as in float64"
        for name, numbers in results.items()
    }
    title = f"**assign**: {_shape(points)}, k = {len(initial):,}"
    flop = 2.0 * points.size * len(initial)
    return Comparison(title, flop, {"ours": ours, "plain torch loop": plain}, checks)


def nearest(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Return the nearest centroid of each point, in the precision of the points, ties as they come."""
    parts = []
    for block in torch.split(points, BLOCK):
        best = torch.full((len(block),), -torch.inf, device=points.device)
        number = torch.zeros(len(block), dtype=torch.int64, device=points.device)
        for start in range(0, len(centroids), COLUMNS):
            score, column = (block @ centroids[start : start + COLUMNS].T).max(dim=1)
            better = score.float() > best
            best = torch.where(better, score.float(), best)
            number = torch.where(better, column + start, number)
        parts.append(number)
    return torch.cat(parts)


def plain_kmeans(points: Halves, initial: Any, iterations: int, machine: Machine) -> torch.Tensor:
    """Return centroids of k-means as a short script has it: bfloat16, all points on the device."""
    on_device = torch.from_numpy(points).to(machine.device, torch.bfloat16)
    centroids = torch.from_numpy(initial).to(machine.device)
    for _ in range(iterations + 1):
        numbers = nearest(on_device, centroids.bfloat16())
        sums = torch.zeros_like(centroids)
        for start in range(0, len(points), BLOCK):
            part = slice(start, start + BLOCK)
            sums.index_add_(0, numbers[part], on_device[part].float())
        centroids = torch.nn.functional.normalize(sums)
    return centroids


def faiss_kmeans(points: Halves, initial: Any, iterations: int, machine: Machine) -> None:
    """Train by faiss.Kmeans; the float32 copy that it needs is part of the time."""
    import faiss

    kmeans = faiss.Kmeans(
        points.shape[1],
        len(initial),
        niter=iterations + 1,
        spherical=True,
        max_points_per_centroid=len(points),
        gpu=machine.device.type == "cuda",
    )
    kmeans.train(points.astype(np.float32), init_centroids=initial)


def joins(sizes: dict[str, Any], dim: int, machine: Machine) -> Iterator[Comparison]:
    """Yield the join of one block with itself, above a floor and without one."""
    rows = sizes["rows"]
    vectors = random_units(rows, dim, machine, seed=1)
    for floor in (0.8, -2.0):
        name = "neighbours" if floor > 0 else "neighbours without a floor"
        title = f"**{name}**: a block of {_shape(vectors)} with itself, k = 64, floor {floor:g}"
        yield _search(title, vectors, [vectors], (64, floor), machine)


def matches(sizes: dict[str, Any], dim: int, machine: Machine) -> Iterator[Comparison]:
    """Yield the exact search of seeds in fragments of the pool."""
    rows = sizes["rows"]
    queries = random_units(sizes["queries"], dim, machine, seed=2)
    fragments = [
        random_units(rows, dim, machine, seed=3 + number) for number in range(sizes["fragments"])
    ]
    title = f"**match**: {_shape(queries)} in {len(fragments)} fragments of {rows:,}, k = 32"
    yield _search(title, queries, fragments, (32, -2.0), machine)


def _search(
    title: str, queries: Halves, parts: list[Halves], wanted: tuple[int, float], machine: Machine
) -> Comparison:
    """Return the comparison of searches in parts of a base, whose results are merged."""
    k, floor = wanted
    rows = sum(map(len, parts))
    ids = np.char.mod("%032x", np.arange(rows)).astype("S32")
    firsts = np.cumsum([0, *map(len, parts)])
    bases = [
        build_base(part, ids[first : first + len(part)])
        for part, first in zip(parts, firsts, strict=False)
    ]

    def ours() -> Candidates:
        device = str(machine.device)
        steps = QuerySteps(queries, device)
        of_bases = [search_steps(steps, base, k, floor) for base in bases]
        return merge(of_bases, k)

    sides: dict[str, Callable[[], object]] = {
        "ours": ours,
        "plain torch loop": lambda: plain_search(queries, parts, k, machine),
    }
    if machine.has_faiss:
        sides["faiss.knn"] = lambda: faiss_search(queries, parts, k, machine)
    flop = 2.0 * queries.size * rows
    return Comparison(title, flop, sides, {"ours": _check(ours(), queries, parts, wanted)})


def _check(
    result: Candidates, queries: Halves, parts: list[Halves], wanted: tuple[int, float]
) -> str:
    """Return for how many queries of a sample the result is the same as by float64 brute force."""
    k, floor = wanted
    sample, equal = min(SAMPLE, len(queries)), 0
    doubles = queries[:sample].astype(np.float64)
    products = np.concatenate([part.astype(np.float64) @ doubles.T for part in parts])
    for number in range(sample):
        scores = products[:, number].astype(np.float32)
        best = np.lexsort((np.arange(len(scores)), -scores))[:k]
        best = best[scores[best] >= floor]
        ours = [int(name, 16) for name in result.ids[result.query == number]]
        equal += ours == best.tolist()
    return f"{equal} of {sample} queries as in float64"


def plain_search(queries: Halves, parts: list[Halves], k: int, machine: Machine) -> torch.Tensor:
    """Return the k best scores of each query as a short script finds them: bfloat16, topk."""
    best = []
    on_device = torch.from_numpy(queries).to(machine.device, torch.bfloat16)
    for part in parts:
        rows = torch.from_numpy(part).to(machine.device, torch.bfloat16)
        scores = [
            (block @ rows.T).topk(min(k, len(rows)), dim=1).values
            for block in torch.split(on_device, BLOCK)
        ]
        best.append(torch.cat(scores))
    return torch.cat(best, dim=1).topk(k, dim=1).values


def faiss_search(queries: Halves, parts: list[Halves], k: int, machine: Machine) -> None:
    """Search each part by FAISS in float32."""
    import faiss

    knn: Callable[..., object] = faiss.knn
    if machine.device.type == "cuda":
        knn = partial(faiss.knn_gpu, faiss.StandardGpuResources())
    floats = queries.astype(np.float32)
    for part in parts:
        knn(floats, part.astype(np.float32), k, metric=faiss.METRIC_INNER_PRODUCT)


def _shape(vectors: Halves) -> str:
    return f"{len(vectors):,} x {vectors.shape[1]}"
