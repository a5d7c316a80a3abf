"""The inverted lists of the project compared with the index that autofaiss chooses, at equal recall.

    pip install autofaiss                          # not needed by the project
    python -m benchmarks.index                     # 200,000 x 256, 16,384 queries, k = 10

autofaiss chooses by memory: `HNSW` if memory is not limited, inverted lists if the index is to be
mapped from a file, as clip-retrieval asks. Its parameter (efSearch or nprobe) and our nprobe are
varied. Each of its points is compared with our cheapest point of at least the same recall. All queries
come in one batch, and both sides use all cores. The time for building the index is printed, but not
included. Ours scores in float64 at the end.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.knn import ivf
from curation.algorithms.knn.choice import default_nlist
from curation.algorithms.knn.exact import Base, Candidates, search
from curation.algorithms.knn.params import SearchParams

K = 10
PARAMETER_VALUES = (1, 4, 16, 64, 256)
CHECKED_QUERIES = 1024
RowNumbers = npt.NDArray[np.int64]


def pairs(candidates: Candidates) -> set[tuple[int, int]]:
    """Return (query, row) of the candidates of checked queries."""
    checked = candidates.query < CHECKED_QUERIES
    rows = [int(name, 16) for name in candidates.ids[checked]]
    return set(zip(candidates.query[checked].tolist(), rows, strict=True))


def pairs_of_rows(rows: RowNumbers) -> set[tuple[int, int]]:
    """Return (query, row) of the checked queries, from rows of shape (queries, k)."""
    part = rows[:CHECKED_QUERIES]
    return set(zip(np.repeat(np.arange(len(part)), K).tolist(), part.ravel().tolist(), strict=True))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the shorter time of two calls, in seconds, and the result."""
    seconds, result = [], None
    for _ in range(2):
        begun = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - begun)
    return min(seconds), result


def ours(
    base: Base, queries: Vectors, truth: set[tuple[int, int]]
) -> list[tuple[str, float, float]]:
    """Return name, recall and queries per second for each nprobe."""
    nlist = default_nlist(len(base.vectors))
    begun = time.perf_counter()
    sample = base.vectors[: ivf.sample_size(nlist)]
    codebooks = ivf.train(sample, "ivf_flat", nlist, subquantizers=1, seed=0)
    index = ivf.build_index(base, ivf.assign_lists(base.vectors, codebooks), codebooks)
    print(f"ours: {nlist} lists, built in {time.perf_counter() - begun:.1f} s")
    points = []
    for nprobe in PARAMETER_VALUES:
        params = SearchParams(nprobe=nprobe)
        seconds, candidates = timed(lambda params=params: ivf.search(queries, index, params, K))
        recall = len(pairs(candidates) & truth) / len(truth)
        points.append((f"nprobe {nprobe}", recall, len(queries) / seconds))
    return points


def theirs(
    base: Vectors, queries: Vectors, truth: set[tuple[int, int]], mappable: bool
) -> Iterator[tuple[str, float, float]]:
    """Yield name, recall and queries per second for each value of the index's parameter."""
    from autofaiss import build_index

    begun = time.perf_counter()
    index, _ = build_index(
        base,
        save_on_disk=False,
        metric_type="ip",
        should_be_memory_mappable=mappable,
        max_index_memory_usage="16G",
        current_memory_available="20G",
        verbose=30,
    )
    built = time.perf_counter() - begun
    name = type(faiss.downcast_index(index)).__name__
    parameter = "efSearch" if "HNSW" in name else "nprobe"
    print(f"autofaiss: {name}, built in {built:.1f} s")
    chosen = faiss.downcast_index(index).nprobe if parameter == "nprobe" else None
    for value in sorted({*PARAMETER_VALUES, *([chosen] if chosen else [])}):
        if parameter == "efSearch" and value < K:
            continue
        faiss.ParameterSpace().set_index_parameter(index, parameter, value)
        seconds, (_, rows) = timed(lambda: index.search(queries, K))
        recall = len(pairs_of_rows(rows) & truth) / len(truth)
        note = " (its own choice)" if value == chosen else ""
        yield f"{name}, {parameter} {value}{note}", recall, len(queries) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=16_384)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument(
        "--hnsw", action="store_true", help="also compare with HNSW, which is slow to build"
    )
    options = parser.parse_args()
    print(conditions())
    vectors = planted_vectors(options.rows, options.dim, seed=0)
    queries = planted_vectors(options.queries, options.dim, seed=0, first=10**8)
    numbers = np.arange(options.rows)
    names = np.char.mod("%032x", numbers).astype("S32")
    base = Base(vectors, names, numbers, np.ones(options.rows, np.int64), numbers)
    truth = pairs(search(queries[:CHECKED_QUERIES], base, K))
    print(f"{options.rows:,} x {options.dim}, {options.queries:,} queries, k = {K}")
    our_points = ours(base, queries, truth)
    exact, _ = timed(lambda: search(queries, base, K))
    our_points.append(("exact", 1.0, len(queries) / exact))
    for name, recall, rate in our_points:
        print(f"  {name}: recall {recall:.4f}, {rate:,.0f} queries/s")
    vectors32, queries32 = vectors.astype(np.float32), queries.astype(np.float32)
    print("\n| autofaiss | recall | queries/s | ours | recall | queries/s | faster by |")
    print("|---|---|---|---|---|---|---|")
    for mappable in (True, False) if options.hnsw else (True,):
        for name, recall, rate in theirs(vectors32, queries32, truth, mappable):
            best = max((p for p in our_points if p[1] >= recall), key=lambda p: p[2])
            print(
                f"| {name} | {recall:.4f} | {rate:,.0f} | {best[0]} | {best[1]:.4f} "
                f"| {best[2]:,.0f} | {best[2] / rate:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
