"""The join of perceptual hashes by cells, beside FAISS's multi-hash tables in blocks.

    python -m benchmarks.hashes --store DIR        # hashes like those of a store; 1, 3 and 10 million

Ours is the whole join of the pool with itself, from fragments to merged pairs, in one process with the
threads of FAISS. `tables` is the earlier join: blocks of 2 million hashes, each in 16 tables of
FAISS's IndexBinaryMultiHash, of which every query asks every block. Its time is that of a sample of
queries in one block, times queries and blocks; building is not counted. The sides take turns.

With `--store`, hashes have the frequencies of bits, and their dependence on each other, of those of a
store: a Gaussian of the same correlations, cut at the same quantiles. Without it, all bits are
independent. A tenth of the hashes are copies of others with up to 24 bits changed, and one hash in a
hundred is that of one picture.
"""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from pathlib import Path
from statistics import median

import faiss
import numpy as np
import pyarrow as pa

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from benchmarks.planted_hashes import changed, draw, hash_statistics
from curation.algorithms.knn.hash_groups import Images
from curation.algorithms.knn.hash_merge import (
    KnownHashes,
    hash_exchange,
    nearest_images,
    search_hashes,
)
from curation.algorithms.knn.hash_parts import BITS, Hashes, choose_parts
from curation.algorithms.knn.params import HammingParams
from curation.engine.context import Context
from curation.engine.exchange import exchange_tables
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment
from curation.store.store import Store

BLOCK, TABLES = 2_000_000, 16
SAMPLE = 2_000
ROWS_PER_FRAGMENT = 100_000
PAIRS = pa.schema(
    [("query_id", pa.string()), ("image_id", pa.string()), ("similarity", pa.float32())]
)


def main() -> None:
    """Measure and print a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**6, 3 * 10**6, 10**7])
    parser.add_argument("--distance", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", type=Path, help="store whose hashes are imitated")
    arguments = parse(parser, {"rows": [60_000], "rounds": 1})
    print(conditions())
    print()
    print("| hashes | parts, cell bits | ours, s | tables, s (extrapolated) | ratio | pairs |")
    print("|---|---|---|---|---|---|")
    for rows in arguments.rows:
        print(_row(rows, arguments))


def _row(rows: int, arguments: Namespace) -> str:
    hashes = make_hashes(rows, arguments.store)
    ours, tables, pairs = [], [], 0
    for _ in range(arguments.rounds):
        seconds, pairs = join(hashes, arguments.distance)
        ours.append(seconds)
        tables.append(by_tables(hashes, arguments.distance))
    parts = choose_parts(arguments.distance, rows)
    ratio = median(tables) / median(ours)
    return (
        f"| {rows:,} | {parts.count}, {parts.cell_bits} | {_range(ours)} | {_range(tables)} "
        f"| {ratio:.1f} | {pairs:,} |"
    )


def _range(seconds: list[float]) -> str:
    return f"{median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})"


def make_hashes(rows: int, store: Path | None) -> Hashes:
    """Return hashes, a tenth of them near copies, and one in a hundred the same."""
    rng = np.random.default_rng(0)
    statistics = hash_statistics(store)
    hashes = np.concatenate(
        [
            draw(min(ROWS_PER_FRAGMENT, rows - start), statistics, rng)
            for start in range(0, rows, ROWS_PER_FRAGMENT)
        ]
    )
    copies = rng.choice(rows, rows // 10, replace=False)
    hashes[copies] = changed(hashes[rng.choice(rows, len(copies))], rng, 24)
    hashes[rng.choice(rows, rows // 100, replace=False)] = hashes[0]
    return hashes


def join(hashes: Hashes, distance: int) -> tuple[float, int]:
    """Return the seconds of our join, and the pairs that it finds."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        by_role = _write(hashes, store)
        context = Context(store, InProcess(), "hashes", None)
        params = HammingParams(max_distance=distance, k=8)
        started = time.perf_counter()
        search = search_hashes(by_role, [("pool", "pool")], params, context, KnownHashes())
        job = hash_exchange(search, write_pairs)
        records = exchange_tables(job, context)
        return time.perf_counter() - started, sum(record.rows for record in records)


def write_pairs(
    near_hashes: pa.Table, members: pa.Table, options: dict[str, object]
) -> StageOutput:
    """Write the merged pairs of some queries."""
    yield empty_batch(PAIRS)
    for _, pairs in nearest_images(near_hashes, members, options):
        yield pairs
    return None


def _write(hashes: Hashes, store: Store) -> Images:
    """Write fragments of `images` and `scores`, with what the join reads."""
    pool = {}
    for start in range(0, len(hashes), ROWS_PER_FRAGMENT):
        part = hashes[start : start + ROWS_PER_FRAGMENT]
        ids = np.random.default_rng(start).bytes(16 * len(part)).hex()
        columns = {
            "image_id": pa.array([ids[n : n + 32] for n in range(0, len(ids), 32)]),
            "phash": pa.array([each.tobytes() for each in part], pa.binary()),
        }
        fragments = []
        for name, values in columns.items():
            writer = FragmentWriter(store, "work/hashes", f"{name}-{start}", None)
            writer.write(pa.RecordBatch.from_arrays([values], names=[name]))
            fragments.append(Fragment(store, writer.close("work/hashes", f"{name}-{start}", {})))
        pool[f"pool-{start:09d}"] = (fragments[0], fragments[1])
    return {"pool": pool}


def by_tables(hashes: Hashes, distance: int) -> float:
    """Return the seconds that tables of blocks take for all queries, from a sample of queries."""
    distinct = np.unique(hashes, axis=0)
    block = np.ascontiguousarray(distinct[:BLOCK])
    index = faiss.IndexBinaryMultiHash(BITS, TABLES, BITS // TABLES)
    index.nflip = distance // TABLES
    index.add(block)
    queries = distinct[:: max(1, len(distinct) // SAMPLE)]
    started = time.perf_counter()
    index.range_search(np.ascontiguousarray(queries), distance + 1)
    seconds = (time.perf_counter() - started) / len(queries)
    return seconds * len(hashes) * len(distinct) / len(block)


if __name__ == "__main__":
    main()
