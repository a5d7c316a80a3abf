"""How time and memory grow with the pool, from cluster to retrieve.

    python -m benchmarks.growth --folder /tmp/growth --figure benchmarks/results/growth.png

For each size, a store is filled with planted float16 vectors, in fragments of 100,000 rows, and with
1,000 seeds. Then these stages run in one process, whose peak resident memory is measured: cluster
(1,024 and 64 clusters, at most 262,144 training vectors), assign, quantise (1,024 lists), index, match
(32 lists probed, k = 8) and retrieve (`sample`, `cluster` and `hierarchical` arms). The exponent is the
slope of log seconds over log rows, between the last two sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib import pyplot as plt

from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from curation.algorithms.arrays.vectors import vector_array
from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import Manifest, Record, add_books
from curation.engine.parallel import InProcess
from curation.engine.store import Store
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.runner import run_step

ROWS_PER_FRAGMENT = 100_000
SEEDS = 1_000
STAGES = ("cluster", "assign", "quantise", "index", "match", "retrieve")
OUTPUT_TABLES = ("centroids", "assignments", "codebooks", "lists", "matches", "claims")
INPUT_TABLES = ("images", "eligible", "embeddings.semantic")


def recipe() -> Recipe:
    """Return the recipe whose stages are measured."""
    location = {"format": "parquet", "path": "unused", "columns": {"image": "i"}}
    arms = [
        {"name": "near", "seeds": "seeds", "strategy": "sample", "k": 8},
        {"name": "around", "seeds": "seeds", "strategy": "cluster", "per_cluster": 50},
        {"name": "even", "strategy": "hierarchical", "target": 20_000},
    ]
    return parse_recipe(
        {
            "name": "growth",
            "sources": [
                {"name": "web", "role": "pool", **location},
                {"name": "seeds", "role": "seed", **location},
            ],
            "cluster": {"levels": [1024, 64], "iterations": 10},
            "match": {"index": "ivf_flat", "nlist": 1024, "nprobe": 32},
            "retrieve": arms,
        }
    )


def fill(store: Store, rows: int) -> None:
    """Commit the tables that the stages read, with planted vectors."""
    parts = {
        f"web-{n:05d}": (n * ROWS_PER_FRAGMENT, ROWS_PER_FRAGMENT)
        for n in range(rows // ROWS_PER_FRAGMENT)
    }
    parts["seeds-00000"] = (10**9, SEEDS)
    records: dict[str, list[Record]] = {table: [] for table in INPUT_TABLES}
    for name, (first, count) in parts.items():
        for table, batch in _batches(name, first, count).items():
            terms = contract(table)
            writer = FragmentWriter(store, f"tables/{table}/data", name, terms)
            writer.write(
                pa.RecordBatch.from_pylist([], terms.arrow_schema()) if not count else batch
            )
            records[table].append(writer.close(f"tables/{table}", name, {}))
    for table, table_records in records.items():
        counts = add_books(record.books for record in table_records)
        store.commit(
            Manifest(
                table, "v", "planted", 1, 1, {}, {}, {}, "now", tuple(table_records), counts, {}
            )
        )


def _batches(name: str, first: int, count: int) -> dict[str, pa.RecordBatch]:
    source = name.split("-", maxsplit=1)[0]
    ids = pa.array([f"{number:032x}" for number in _mixed(first, count)])
    same = {
        "pair_id": ids,
        "image_id": ids,
        "role": pa.array([{"web": "pool", "seeds": "seed"}[source]] * count),
        "source": pa.array([source] * count),
    }
    vectors = vector_array(planted_vectors(count, 256, seed=0, first=first))
    columns = {
        "images": same | {"status": pa.array(["ok"] * count)},
        "eligible": same | {"status": pa.array(["eligible"] * count)},
        "embeddings.semantic": {"pair_id": ids, "image_id": ids, "vector": vectors},
    }
    return {table: _full_batch(table, named, count) for table, named in columns.items()}


def _mixed(first: int, count: int) -> list[int]:
    """Return identities that look like digests: distinct numbers in no order."""
    numbers = np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return [int(number) << 64 | int(number) for number in numbers]


def _full_batch(table: str, columns: dict[str, pa.Array], count: int) -> pa.RecordBatch:
    """Return a batch of a table, with nulls in the columns that the stages do not read."""
    schema = contract(table).arrow_schema()
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


def measure(folder: str) -> dict[str, Any]:
    """Run the stages on a filled store; return seconds by stage and peak memory in GiB."""
    store, seconds = Store(folder), {}
    for step in plan(recipe()):
        if step.name in STAGES:
            begun = time.perf_counter()
            run_step(step, store, InProcess())
            seconds[step.name] = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak_gib": peak, "match": store.manifest("matches").stats}  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder for the stores")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--figure", type=Path, help="PNG file to write")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    print(conditions())
    print("\n| rows | " + " | ".join(STAGES) + " | all, s | exponent | peak, GiB | recall@8 |")
    print("|" + "---|" * (len(STAGES) + 5))
    results: dict[int, dict[str, Any]] = {}
    for rows in options.rows:
        folder = options.folder / str(rows)
        if not folder.exists():
            fill(Store(folder), rows)
        for derived in ("work", *(f"tables/{t}" for t in OUTPUT_TABLES)):
            shutil.rmtree(folder / derived, ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.growth", "--folder", "."]
        process = subprocess.run(
            [*command, "--measure", str(folder)],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        )
        results[rows] = json.loads(process.stdout.splitlines()[-1])
        _print_row(results, rows)
    if options.figure:
        _draw(results, options.figure)


def _print_row(results: dict[int, dict[str, Any]], rows: int) -> None:
    measures = results[rows]
    total = sum(measures["seconds"].values())
    before = [r for r in results if r < rows]
    exponent = "–"
    if before:
        last = max(before)
        ratio = total / sum(results[last]["seconds"].values())
        exponent = f"{np.log(ratio) / np.log(rows / last):.2f}"
    stages = " | ".join(f"{measures['seconds'][s]:.1f}" for s in STAGES)
    peak, recall = measures["peak_gib"], measures["match"]["recall"]
    print(
        f"| {rows:,} | {stages} | {total:.1f} | {exponent} | {peak:.2f} | {recall:.3f} |",
        flush=True,
    )


def _draw(results: dict[int, dict[str, Any]], path: Path) -> None:
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    rows = list(results)
    for stage in STAGES:
        left.loglog(rows, [results[r]["seconds"][stage] for r in rows], marker="o", label=stage)
    total = [sum(results[r]["seconds"].values()) for r in rows]
    left.loglog(rows, total, marker="o", color="black", linewidth=2.5, label="all")
    left.set(xlabel="vectors in the pool, 256 dimensions", ylabel="seconds")
    left.legend(fontsize=8)
    right.semilogx(rows, [results[r]["peak_gib"] for r in rows], marker="o", color="#1f6f8b")
    right.axhline(6, color="#b4b4b4", linestyle="--")
    right.set(
        xlabel="vectors in the pool, 256 dimensions", ylabel="peak memory, GiB", ylim=(0, 6.5)
    )
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
