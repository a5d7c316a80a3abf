"""Exact search of the project beside `faiss.knn`, on the same vectors, in one process.

    python -m benchmarks.knn                       # 4,096 queries against 1M x 256, k = 4, 32 and 64

Both sides get float16 vectors and use all cores. Ours computes the scores of its neighbours again in
float64. For a sample of queries, both results are compared with a float64 brute-force search, which
breaks ties by the smaller row.
"""

from __future__ import annotations

import time

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.nearest_pairs import candidate_pairs
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.knn.exact import Base, search

SAMPLE = 32
"""The results of this many queries are compared with a brute-force search."""


def brute_force(queries: Vectors, base: Vectors, k: int) -> npt.NDArray[np.int64]:
    """Return the k rows of the largest float64 scores, (n, k); ties go to the smaller row."""
    neighbours = np.empty((len(queries), k), np.int64)
    for number, query in enumerate(queries.astype(np.float64)):
        parts = [
            base[start : start + 65_536].astype(np.float64) @ query
            for start in range(0, len(base), 65_536)
        ]
        score = np.concatenate(parts).astype(np.float32)
        neighbours[number] = np.lexsort((np.arange(len(score)), -score))[:k]
    return neighbours


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("-k", type=int, nargs="+", default=[4, 32, 64])
    options = parse(parser, {"rows": 5000, "queries": 64, "k": [4]})
    print(conditions())
    vectors = planted_vectors(options.rows, options.dim, seed=0)
    queries = planted_vectors(options.queries, options.dim, seed=0, first=options.rows)
    numbers = np.arange(options.rows)
    ids = np.char.mod("%032x", numbers).astype("S32")
    base = Base(vectors, ids, numbers, np.ones(options.rows, np.int64), numbers)
    # The first search loads libraries.
    candidate_pairs(queries[:64], vectors[:4096], 4)
    faiss.knn(queries[:64].astype(np.float32), vectors[:4096].astype(np.float32), 4)
    print(f"{options.queries:,} queries, {options.rows:,} x {options.dim} float16\n")
    print("| k | faiss.knn, s | ours, s | ours is faster by | ours = float64 | faiss = float64 |")
    print("|---|---|---|---|---|---|")
    for k in options.k:
        started = time.perf_counter()
        _, faiss_rows = faiss.knn(
            queries.astype(np.float32),
            vectors.astype(np.float32),
            k,
            metric=faiss.METRIC_INNER_PRODUCT,
        )
        faiss_s = time.perf_counter() - started
        started = time.perf_counter()
        candidates = search(queries, base, k)
        our_s = time.perf_counter() - started
        truth = brute_force(queries[:SAMPLE], vectors, k)
        our_rows = np.array([int(i, 16) for i in candidates.ids[: SAMPLE * k]]).reshape(SAMPLE, k)
        ours, theirs = ((rows[:SAMPLE] == truth).mean() for rows in (our_rows, faiss_rows))
        print(
            f"| {k} | {faiss_s:.1f} | {our_s:.1f} | {faiss_s / our_s:.2f} | {ours:.4f} "
            f"| {theirs:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
