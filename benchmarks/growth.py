"""How time and memory grow with the pool, from cluster to retrieve.

    python -m benchmarks.growth --figure benchmarks/results/growth.png

For each size a store is filled with planted float16 vectors, in fragments of 100,000 rows, and with
1,000 seeds; then the stages cluster (1,024 and 64 clusters, at most 262,144 training vectors), assign,
quantise (1,024 lists), index, match (32 lists probed, k = 8) and retrieve (`sample`, `cluster` and
`hierarchical` arms) run in one process of their own, whose peak resident memory counts. The exponent is
the slope of log seconds over log rows, between the last two sizes.
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
from curation.algorithms.arrays.vectors import vector_array
from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import FragmentRecord, Manifest, sum_counts
from curation.engine.parallel import InProcess
from curation.engine.store import Store
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.runner import run_step

STAGES = ("cluster", "assign", "quantise", "index", "match", "retrieve")
WRITTEN = ("centroids", "assignments", "codebooks", "lists", "matches", "claims")
TABLES = ("images", "eligible", "embeddings.semantic")


@dataclass(frozen=True)
class Scale:
    """Rows of a fragment and of the seeds, numbers of clusters and lists, images to draw."""

    fragment: int = 100_000
    seeds: int = 1_000
    levels: tuple[int, int] = (1024, 64)
    lists: int = 1024
    target: int = 20_000


TINY = Scale(fragment=2_000, seeds=50, levels=(32, 8), lists=32, target=200)


def recipe(scale: Scale) -> Recipe:
    """Return the recipe whose later stages run."""
    place = {"format": "parquet", "path": "unused", "columns": {"image": "i"}}
    arms = [
        {"name": "near", "seeds": "seeds", "strategy": "sample", "k": 8},
        {"name": "around", "seeds": "seeds", "strategy": "cluster", "per_cluster": 50},
        {"name": "even", "strategy": "hierarchical", "target": scale.target},
    ]
    return parse_recipe(
        {
            "name": "growth",
            "sources": [
                {"name": "web", "role": "pool", **place},
                {"name": "seeds", "role": "seed", **place},
            ],
            "cluster": {"levels": list(scale.levels), "iterations": 10},
            "match": {"index": "ivf_flat", "nlist": scale.lists, "nprobe": 32},
            "retrieve": arms,
        }
    )


def fill(store: Store, rows: int, scale: Scale) -> None:
    """Commit the tables that the stages read, with planted vectors."""
    size = scale.fragment
    parts = {f"web-{n:05d}": (n * size, size) for n in range(rows // size)}
    parts["seeds-00000"] = (10**9, scale.seeds)
    records: dict[str, list[FragmentRecord]] = {table: [] for table in TABLES}
    for name, (first, many) in parts.items():
        for table, batch in _batches(name, first, many).items():
            terms = contract(table)
            writer = FragmentWriter(store, f"tables/{table}/data", name, terms)
            writer.write(
                pa.RecordBatch.from_pylist([], terms.arrow_schema()) if not many else batch
            )
            records[table].append(writer.close(f"tables/{table}", name, {}))
    for table, own in records.items():
        counts = sum_counts(r.counts for r in own)
        store.commit(
            Manifest(table, "v", "planted", 1, 1, {}, {}, {}, "now", tuple(own), counts, {})
        )


def _batches(name: str, first: int, many: int) -> dict[str, pa.RecordBatch]:
    source = name.split("-", maxsplit=1)[0]
    ids = pa.array([f"{number:032x}" for number in _mixed(first, many)])
    same = {
        "pair_id": ids,
        "image_id": ids,
        "role": pa.array([{"web": "pool", "seeds": "seed"}[source]] * many),
        "source": pa.array([source] * many),
    }
    vectors = vector_array(planted_vectors(many, 256, seed=0, first=first))
    given = {
        "images": same | {"status": pa.array(["ok"] * many)},
        "eligible": same | {"status": pa.array(["eligible"] * many)},
        "embeddings.semantic": {"pair_id": ids, "image_id": ids, "vector": vectors},
    }
    return {table: _whole(table, columns, many) for table, columns in given.items()}


def _mixed(first: int, many: int) -> list[int]:
    """Return identities that look like digests: numbers in no order, without repeats."""
    numbers = np.arange(first, first + many, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return [int(number) << 64 | int(number) for number in numbers]


def _whole(table: str, columns: dict[str, pa.Array], many: int) -> pa.RecordBatch:
    """Return the columns with nulls for those that the stages do not read."""
    schema = contract(table).arrow_schema()
    arrays = [columns.get(field.name, pa.nulls(many, field.type)) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)


def measure(folder: str, scale: Scale) -> dict[str, Any]:
    """Run the stages on a filled store; return seconds by stage and peak memory in GiB."""
    store, seconds = Store(folder), {}
    for step in plan(recipe(scale)):
        if step.name in STAGES:
            begun = time.perf_counter()
            run_step(step, store, InProcess())
            seconds[step.name] = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak_gib": peak, "match": store.manifest("matches").stats}  # type: ignore[union-attr]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="where stores are made and kept")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--measure", help=SUPPRESS)
    options = parse(parser, {"rows": [4_000, 8_000]})
    if options.measure:
        print(json.dumps(measure(options.measure, TINY if options.tiny else Scale())))
        return
    print(conditions())
    with folder_or_temporary(options.folder) as folder:
        found = compare(folder, options.rows, options.tiny)
    if options.figure:
        _draw(found, options.figure)


def compare(folder: Path, sizes: list[int], tiny: bool) -> dict[int, dict[str, Any]]:
    """Print a row for each size; return what was measured."""
    print("\n| rows | " + " | ".join(STAGES) + " | all, s | exponent | peak, GiB | recall@8 |")
    print("|" + "---|" * (len(STAGES) + 5))
    found: dict[int, dict[str, Any]] = {}
    for rows in sizes:
        place = folder / str(rows)
        if not place.exists():
            fill(Store(place), rows, TINY if tiny else Scale())
        for derived in ("work", *(f"tables/{t}" for t in WRITTEN)):
            shutil.rmtree(place / derived, ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.growth", *(["--tiny"] if tiny else [])]
        done = subprocess.run(
            [*command, "--measure", str(place)],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        )
        found[rows] = json.loads(done.stdout.splitlines()[-1])
        _tell(found, rows)
    return found


def _tell(found: dict[int, dict[str, Any]], rows: int) -> None:
    own = found[rows]
    total = sum(own["seconds"].values())
    before = [r for r in found if r < rows]
    exponent = "–"
    if before:
        last = max(before)
        ratio = total / sum(found[last]["seconds"].values())
        exponent = f"{np.log(ratio) / np.log(rows / last):.2f}"
    stages = " | ".join(f"{own['seconds'][s]:.1f}" for s in STAGES)
    recall = own["match"]["recall"]
    print(
        f"| {rows:,} | {stages} | {total:.1f} | {exponent} | {own['peak_gib']:.2f} | {recall:.3f} |",
        flush=True,
    )


def _draw(found: dict[int, dict[str, Any]], path: Path) -> None:
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    rows = list(found)
    for stage in STAGES:
        left.loglog(rows, [found[r]["seconds"][stage] for r in rows], marker="o", label=stage)
    total = [sum(found[r]["seconds"].values()) for r in rows]
    left.loglog(rows, total, marker="o", color="black", linewidth=2.5, label="all")
    left.set(xlabel="vectors in the pool, 256 dimensions", ylabel="seconds")
    left.legend(fontsize=8)
    right.semilogx(rows, [found[r]["peak_gib"] for r in rows], marker="o", color="#1f6f8b")
    right.axhline(6, color="#b4b4b4", linestyle="--")
    right.set(
        xlabel="vectors in the pool, 256 dimensions", ylabel="peak memory, GiB", ylim=(0, 6.5)
    )
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
