"""The inverted lists of the project beside the index that autofaiss chooses, at equal recall.

    pip install --no-deps autofaiss embedding-reader   # as it is, autofaiss asks for numpy 1
    python -m benchmarks.index                     # 200,000 x 256, 16,384 queries, k = 10

autofaiss chooses by memory: `HNSW` where it may take what it likes, inverted lists where the index is
to be mapped from a file, as clip-retrieval asks. Its parameter (efSearch or nprobe) and our nprobe are
swept; for each of its points stands our cheapest with at least its recall. All queries come in one
batch, both sides use all cores, building is not counted but told. Ours scores in float64 at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

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
CHECKED = 1024
Rows = npt.NDArray[np.int64]


def pairs(found: Candidates) -> set[tuple[int, int]]:
    """Return (query, row) of the checked queries."""
    own = found.query < CHECKED
    rows = [int(name, 16) for name in found.ids[own]]
    return set(zip(found.query[own].tolist(), rows, strict=True))


def pairs_of(rows: Rows) -> set[tuple[int, int]]:
    """Return the same of an array (queries, k)."""
    part = rows[:CHECKED]
    return set(zip(np.repeat(np.arange(len(part)), K).tolist(), part.ravel().tolist(), strict=True))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the better of two times, and the result."""
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
    books = ivf.train(sample, "ivf_flat", nlist, subquantizers=1, seed=0)
    lists = ivf.build_index(base, ivf.assign_lists(base.vectors, books), books)
    print(f"ours: {nlist} lists, built in {time.perf_counter() - begun:.1f} s")
    points = []
    for nprobe in SWEEP:
        params = SearchParams(nprobe=nprobe)
        seconds, found = timed(partial(ivf.search, queries, lists, params, K))
        recall = len(pairs(found) & truth) / len(truth)
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
    lists: Any = faiss.downcast_index(index)
    chosen = lists.nprobe if parameter == "nprobe" else None
    for value in sorted({*SWEEP, *([chosen] if chosen else [])}):
        if parameter == "efSearch" and value < K:
            continue
        faiss.ParameterSpace().set_index_parameter(index, parameter, value)
        seconds, (_, rows) = timed(lambda: index.search(queries, K))
        recall = len(pairs_of(rows) & truth) / len(truth)
        own = " (its own choice)" if value == chosen else ""
        yield f"{name}, {parameter} {value}{own}", recall, len(queries) / seconds


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=16_384)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--hnsw", action="store_true", help="also its graph, slow to build")
    options = parse(parser, {"rows": 5000, "queries": 512})
    has_autofaiss = has_peer(
        options, "autofaiss", "pip install --no-deps autofaiss embedding-reader"
    )
    print(conditions())
    vectors = planted_vectors(options.rows, options.dim, seed=0)
    queries = planted_vectors(options.queries, options.dim, seed=0, first=10**8)
    every = np.arange(options.rows)
    names = np.char.mod("%032x", every).astype("S32")
    base = Base(vectors, names, every, np.ones(options.rows, np.int64), every)
    truth = pairs(search(queries[:CHECKED], base, K))
    print(f"{options.rows:,} x {options.dim}, {options.queries:,} queries, k = {K}")
    own = ours(base, queries, truth)
    exact, _ = timed(lambda: search(queries, base, K))
    own.append(("exact", 1.0, len(queries) / exact))
    for name, recall, rate in own:
        print(f"  {name}: recall {recall:.4f}, {rate:,.0f} queries/s")
    if not has_autofaiss:
        return
    wide, asked = vectors.astype(np.float32), queries.astype(np.float32)
    print("\n| autofaiss | recall | queries/s | ours | recall | queries/s | faster by |")
    print("|---|---|---|---|---|---|---|")
    for mappable in (True, False) if options.hnsw else (True,):
        for name, recall, rate in theirs(wide, asked, truth, mappable):
            best = max((p for p in own if p[1] >= recall), key=lambda p: p[2])
            print(
                f"| {name} | {recall:.4f} | {rate:,.0f} | {best[0]} | {best[1]:.4f} "
                f"| {best[2]:,.0f} | {best[2] / rate:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
