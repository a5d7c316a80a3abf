"""The inverted lists of the project beside the index that autofaiss chooses, at equal recall.

    pip install --no-deps autofaiss embedding-reader   # autofaiss's dependencies include numpy 1
    python -m benchmarks.index                     # 200,000 x 256, 16,384 queries, k = 10

autofaiss chooses `HNSW` if memory is not limited, and inverted lists if the index must be mapped from
a file, as clip-retrieval requires. Its parameter (efSearch or nprobe) and our nprobe are swept. For
each of its points, the table has our fastest point with at least the same recall. All queries are one
batch, and both sides use all cores. The time to build an index is printed, but not compared. Ours
computes the scores of its results again in float64.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.command import has_peer, parse, parser_of
from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.knn import ivf
from curation.algorithms.knn.choice import default_nlist
from curation.algorithms.knn.exact import Base, Candidates, search
from curation.algorithms.knn.params import SearchParams

K = 10
SWEEP = (1, 4, 16, 64, 256)
SAMPLE = 1024
"""Recall is measured on this many queries."""
Rows = npt.NDArray[np.int64]
Pairs = set[tuple[int, int]]
"""Pairs of query and row."""


class Point(NamedTuple):
    """What is measured for one value of an index's parameter."""

    name: str
    recall: float
    queries_per_second: float


def pairs_of_candidates(candidates: Candidates) -> Pairs:
    """Return the pairs of the sampled queries."""
    sampled = candidates.query < SAMPLE
    rows = [int(image_id, 16) for image_id in candidates.ids[sampled]]
    return set(zip(candidates.query[sampled].tolist(), rows, strict=True))


def pairs_of_rows(rows: Rows) -> Pairs:
    """Return the pairs of the sampled queries; rows: (queries, k)."""
    sampled = rows[:SAMPLE]
    queries = np.repeat(np.arange(len(sampled)), K)
    return set(zip(queries.tolist(), sampled.ravel().tolist(), strict=True))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Call twice; return the shorter time in seconds, and the result."""
    seconds, result = [], None
    for _ in range(2):
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def ours(base: Base, queries: Vectors, truth: Pairs) -> list[Point]:
    """Return a point for each nprobe."""
    nlist = default_nlist(len(base.vectors))
    started = time.perf_counter()
    sample = base.vectors[: ivf.sample_size(nlist)]
    codebooks = ivf.train(sample, "ivf_flat", nlist, subquantizers=1, seed=0)
    lists = ivf.build_index(base, ivf.assign_lists(base.vectors, codebooks), codebooks)
    print(f"ours: {nlist} lists, built in {time.perf_counter() - started:.1f} s")
    points = []
    for nprobe in SWEEP:
        params = SearchParams(nprobe=nprobe)
        seconds, candidates = timed(partial(ivf.search, queries, lists, params, K))
        recall = len(pairs_of_candidates(candidates) & truth) / len(truth)
        points.append(Point(f"nprobe {nprobe}", recall, len(queries) / seconds))
    return points


def autofaiss_points(
    base: Vectors, queries: Vectors, truth: Pairs, mappable: bool
) -> Iterator[Point]:
    """Yield a point for each value of the index's parameter."""
    from autofaiss import build_index

    started = time.perf_counter()
    index, _ = build_index(
        base,
        save_on_disk=False,
        metric_type="ip",
        should_be_memory_mappable=mappable,
        max_index_memory_usage="16G",
        current_memory_available="20G",
        verbose=30,
    )
    build_seconds = time.perf_counter() - started
    typed_index: Any = faiss.downcast_index(index)
    name = type(typed_index).__name__
    print(f"autofaiss: {name}, built in {build_seconds:.1f} s")
    parameter = "efSearch" if "HNSW" in name else "nprobe"
    chosen = typed_index.nprobe if parameter == "nprobe" else None
    for value in sorted({*SWEEP, *([chosen] if chosen else [])}):
        if parameter == "efSearch" and value < K:
            continue
        faiss.ParameterSpace().set_index_parameter(index, parameter, value)
        seconds, (_, rows) = timed(lambda: index.search(queries, K))
        recall = len(pairs_of_rows(rows) & truth) / len(truth)
        remark = " (its own choice)" if value == chosen else ""
        yield Point(f"{name}, {parameter} {value}{remark}", recall, len(queries) / seconds)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=16_384)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument(
        "--hnsw", action="store_true", help="compare with HNSW too, which is slow to build"
    )
    options = parse(parser, {"rows": 5000, "queries": 512})
    has_autofaiss = has_peer(
        options, "autofaiss", "pip install --no-deps autofaiss embedding-reader"
    )
    print(conditions())
    vectors = planted_vectors(options.rows, options.dim, seed=0)
    queries = planted_vectors(options.queries, options.dim, seed=0, first=10**8)
    numbers = np.arange(options.rows)
    ids = np.char.mod("%032x", numbers).astype("S32")
    base = Base(vectors, ids, numbers, np.ones(options.rows, np.int64), numbers)
    truth = pairs_of_candidates(search(queries[:SAMPLE], base, K))
    print(f"{options.rows:,} x {options.dim}, {options.queries:,} queries, k = {K}")
    our_points = ours(base, queries, truth)
    exact_seconds, _ = timed(lambda: search(queries, base, K))
    our_points.append(Point("exact", 1.0, len(queries) / exact_seconds))
    for name, recall, rate in our_points:
        print(f"  {name}: recall {recall:.4f}, {rate:,.0f} queries/s")
    if not has_autofaiss:
        return
    float_base, float_queries = vectors.astype(np.float32), queries.astype(np.float32)
    print("\n| autofaiss | recall | queries/s | ours | recall | queries/s | faster by |")
    print("|---|---|---|---|---|---|---|")
    for mappable in (True, False) if options.hnsw else (True,):
        for name, recall, rate in autofaiss_points(float_base, float_queries, truth, mappable):
            as_good = [point for point in our_points if point.recall >= recall]
            best = max(as_good, key=lambda point: point.queries_per_second)
            print(
                f"| {name} | {recall:.4f} | {rate:,.0f} | {best.name} | {best.recall:.4f} "
                f"| {best.queries_per_second:,.0f} | {best.queries_per_second / rate:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
