"""Exact search of the project compared with `faiss.knn`, on the same vectors, in one process.

    python -m benchmarks.knn                       # 4,096 queries against 1M x 256, k = 4, 32 and 64

Both sides get float16 vectors and use all cores. Ours scores its neighbours again in float64. The
results of some queries are compared with brute force in float64, with equal similarities in order.
"""

from __future__ import annotations

import argparse
import time

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays import screened_products as screened
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.knn.exact import Base, search

CHECKED_QUERIES = 32


def reference(queries: Vectors, base: Vectors, k: int) -> npt.NDArray[np.int64]:
    """Return the k rows of largest float64 score, equal ones by row number, shape (n, k)."""
    best = np.empty((len(queries), k), np.int64)
    for number, query in enumerate(queries.astype(np.float64)):
        parts = [
            base[start : start + 65_536].astype(np.float64) @ query
            for start in range(0, len(base), 65_536)
        ]
        score = np.concatenate(parts).astype(np.float32)
        best[number] = np.lexsort((np.arange(len(score)), -score))[:k]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("-k", type=int, nargs="+", default=[4, 32, 64])
    options = parser.parse_args()
    print(conditions())
    base = planted_vectors(options.rows, options.dim, seed=0)
    queries = planted_vectors(options.queries, options.dim, seed=0, first=options.rows)
    ids = np.char.mod("%032x", np.arange(options.rows)).astype("S32")
    numbers = np.arange(options.rows)
    grouped = Base(base, ids, numbers, np.ones(options.rows, np.int64), numbers)
    # The first search loads libraries, so it is not timed.
    screened.candidates(queries[:64], base[:4096], 4)
    faiss.knn(queries[:64].astype(np.float32), base[:4096].astype(np.float32), 4)
    print(f"{options.queries:,} queries, {options.rows:,} x {options.dim} float16\n")
    print("| k | faiss.knn, s | ours, s | ours is faster by | ours = float64 | faiss = float64 |")
    print("|---|---|---|---|---|---|")
    for k in options.k:
        begun = time.perf_counter()
        _, theirs = faiss.knn(
            queries.astype(np.float32),
            base.astype(np.float32),
            k,
            metric=faiss.METRIC_INNER_PRODUCT,
        )
        faiss_seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        found = search(queries, grouped, k)
        our_seconds = time.perf_counter() - begun
        truth = reference(queries[:CHECKED_QUERIES], base, k)
        rows = np.array([int(i, 16) for i in found.ids[: CHECKED_QUERIES * k]]).reshape(
            CHECKED_QUERIES, k
        )
        same = [(part == truth).mean() for part in (rows, theirs[:CHECKED_QUERIES])]
        print(
            f"| {k} | {faiss_seconds:.1f} | {our_seconds:.1f} | {faiss_seconds / our_seconds:.2f} "
            f"| {same[0]:.4f} | {same[1]:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
