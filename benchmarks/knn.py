"""Exact search of the project beside `faiss.knn`, on the same vectors, in one process.

    python -m benchmarks.knn                       # 4,096 queries against 1M x 256, k = 4, 32 and 64

Both sides take float16 vectors and use all cores. Ours scores its neighbours again in float64; a
sample of queries is compared with a float64 brute force, ties included.
"""

from __future__ import annotations

import time

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays import screened_products as screened
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.knn.exact import Base, search

CHECKED = 32


def reference(queries: Vectors, base: Vectors, k: int) -> npt.NDArray[np.int64]:
    """Return the k rows of largest float64 score, ties to the smaller row: (n, k)."""
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
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("-k", type=int, nargs="+", default=[4, 32, 64])
    options = parse(parser, {"rows": 5000, "queries": 64, "k": [4]})
    print(conditions())
    base = planted_vectors(options.rows, options.dim, seed=0)
    queries = planted_vectors(options.queries, options.dim, seed=0, first=options.rows)
    ids = np.char.mod("%032x", np.arange(options.rows)).astype("S32")
    every = np.arange(options.rows)
    held = Base(base, ids, every, np.ones(options.rows, np.int64), every)
    # Libraries load at the first search.
    screened.candidate_pairs(queries[:64], base[:4096], 4)
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
        peer = time.perf_counter() - begun
        begun = time.perf_counter()
        found = search(queries, held, k)
        own = time.perf_counter() - begun
        truth = reference(queries[:CHECKED], base, k)
        rows = np.array([int(i, 16) for i in found.ids[: CHECKED * k]]).reshape(CHECKED, k)
        same = [(part == truth).mean() for part in (rows, theirs[:CHECKED])]
        print(
            f"| {k} | {peer:.1f} | {own:.1f} | {peer / own:.2f} | {same[0]:.4f} | {same[1]:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
