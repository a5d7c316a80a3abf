"""How time and memory grow with the pool, from cluster to retrieve.

    python -m benchmarks.growth --figure benchmarks/results/growth.png

For each size, a store is filled with planted float16 vectors, in fragments of 100,000 rows, and with
1,000 seeds. Then these stages run in one separate process, whose peak resident memory is printed:
cluster (1,024 and 64 clusters, at most 262,144 training vectors), assign, quantise (1,024 lists),
index, match (nprobe 32, k = 8) and retrieve (arms of `sample`, `cluster` and `hierarchical`). The
exponent is the slope of log seconds over log rows, from the previous size to this one.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from argparse import SUPPRESS
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib import pyplot as plt

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.machine import conditions
from benchmarks.planted import planted_vectors
from benchmarks.tables import commit_manifest, hand_made, run_step
from curation.algorithms.arrays.vectors import vector_array
from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.store.manifest import FragmentRecord, sum_counts
from curation.store.store import Store

STAGES = ("cluster", "assign", "quantise", "index", "match", "retrieve")
INPUT_TABLES = ("images", "eligible", "embeddings.semantic")
OUTPUT_TABLES = ("centroids", "assignments", "codebooks", "lists", "matches", "claims")
Results = dict[int, dict[str, Any]]
"""What `measure` returns, by the number of rows."""


@dataclass(frozen=True)
class Scale:
    """Rows per fragment, number of seeds, numbers of clusters and lists, images to draw."""

    fragment_rows: int = 100_000
    seeds: int = 1_000
    levels: tuple[int, int] = (1024, 64)
    lists: int = 1024
    target: int = 20_000


TINY = Scale(fragment_rows=2_000, seeds=50, levels=(32, 8), lists=32, target=200)


def recipe(scale: Scale) -> Recipe:
    """Return the recipe whose STAGES run."""
    source = {"format": "parquet", "path": "unused", "columns": {"image": "i"}}
    arms = [
        {"name": "near", "seeds": "seeds", "strategy": "sample", "k": 8},
        {"name": "around", "seeds": "seeds", "strategy": "cluster", "per_cluster": 50},
        {"name": "even", "strategy": "hierarchical", "target": scale.target},
    ]
    return parse_recipe(
        {
            "name": "growth",
            "sources": [
                {"name": "web", "role": "pool", **source},
                {"name": "seeds", "role": "seed", **source},
            ],
            "cluster": {"levels": list(scale.levels), "iterations": 10},
            "match": {"index": "ivf_flat", "nlist": scale.lists, "nprobe": 32},
            "retrieve": arms,
        }
    )


def fill(store: Store, rows: int, scale: Scale) -> None:
    """Commit the tables that the stages read, with planted vectors."""
    size = scale.fragment_rows
    fragments = {f"web-{n:05d}": (n * size, size) for n in range(rows // size)}
    fragments["seeds-00000"] = (10**9, scale.seeds)
    records: dict[str, list[FragmentRecord]] = {table: [] for table in INPUT_TABLES}
    for name, (first, count) in fragments.items():
        for table, batch in _batches(name, first, count).items():
            table_contract = contract(table)
            empty = pa.RecordBatch.from_pylist([], table_contract.arrow_schema())
            writer = FragmentWriter(store, f"tables/{table}/data", name, table_contract)
            writer.write(batch if count else empty)
            records[table].append(writer.close(f"tables/{table}", name, {}))
    for table, fragment_records in records.items():
        counts = sum_counts(record.counts for record in fragment_records)
        entries = tuple(fragment_records)
        commit_manifest(store, hand_made(table, "v", entries, counts))


def _batches(name: str, first: int, count: int) -> dict[str, pa.RecordBatch]:
    """Return the rows of a fragment for each input table."""
    source = name.split("-", maxsplit=1)[0]
    ids = pa.array([f"{number:032x}" for number in _digests(first, count)])
    common = {
        "pair_id": ids,
        "image_id": ids,
        "role": pa.array([{"web": "pool", "seeds": "seed"}[source]] * count),
        "source": pa.array([source] * count),
    }
    vectors = vector_array(planted_vectors(count, 256, seed=0, first=first))
    tables = {
        "images": common | {"status": pa.array(["ok"] * count)},
        "eligible": common | {"status": pa.array(["eligible"] * count)},
        "embeddings.semantic": {"pair_id": ids, "image_id": ids, "vector": vectors},
    }
    return {table: _with_nulls(table, columns, count) for table, columns in tables.items()}


def _digests(first: int, count: int) -> list[int]:
    """Return distinct 128-bit numbers that look like digests."""
    numbers = np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return [int(number) << 64 | int(number) for number in numbers]


def _with_nulls(table: str, columns: dict[str, pa.Array], count: int) -> pa.RecordBatch:
    """Return all columns of a table; those that the stages do not read are null."""
    schema = contract(table).arrow_schema()
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


def measure(folder: str, scale: Scale) -> dict[str, Any]:
    """Run the stages on a filled store; return seconds by stage and peak memory in GiB."""
    store, seconds = Store(folder), {}
    for step in plan(recipe(scale)):
        if step.name in STAGES:
            started = time.perf_counter()
            run_step(step, store, InProcess())
            seconds[step.name] = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": seconds,
        "peak_gib": peak,
        "match": open_table(store, "matches").manifest.stats,
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="stores are written and kept here")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--measure", help=SUPPRESS)
    options = parse(parser, {"rows": [4_000, 8_000]})
    if options.measure:
        print(json.dumps(measure(options.measure, TINY if options.tiny else Scale())))
        return
    print(conditions())
    with folder_or_temporary(options.folder) as folder:
        results = compare(folder, options.rows, options.tiny)
    if options.figure:
        _draw(results, options.figure)


def compare(folder: Path, sizes: list[int], tiny: bool) -> Results:
    """Measure each size, print a row for it, and return the results."""
    print("\n| rows | " + " | ".join(STAGES) + " | all, s | exponent | peak, GiB | recall@8 |")
    print("|" + "---|" * (len(STAGES) + 5))
    results: Results = {}
    for rows in sizes:
        store = folder / str(rows)
        if not store.exists():
            fill(Store(store), rows, TINY if tiny else Scale())
        for output in ("work", *(f"tables/{table}" for table in OUTPUT_TABLES)):
            shutil.rmtree(store / output, ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.growth", *(["--tiny"] if tiny else [])]
        process = subprocess.run(
            [*command, "--measure", str(store)],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        )
        results[rows] = json.loads(process.stdout.splitlines()[-1])
        _print_row(results, rows)
    return results


def _print_row(results: Results, rows: int) -> None:
    seconds, peak = results[rows]["seconds"], results[rows]["peak_gib"]
    total = sum(seconds.values())
    smaller = [size for size in results if size < rows]
    exponent = "–"
    if smaller:
        last = max(smaller)
        ratio = total / sum(results[last]["seconds"].values())
        exponent = f"{np.log(ratio) / np.log(rows / last):.2f}"
    stages = " | ".join(f"{seconds[stage]:.1f}" for stage in STAGES)
    recall = results[rows]["match"]["recall"]
    print(
        f"| {rows:,} | {stages} | {total:.1f} | {exponent} | {peak:.2f} | {recall:.3f} |",
        flush=True,
    )


def _draw(results: Results, path: Path) -> None:
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
