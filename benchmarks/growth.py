"""How time and memory grow with the pool, from neighbours to the dataset, on a local Spark.

    python -m benchmarks.growth --figure benchmarks/results/growth.png

For each size, a store is filled with planted float16 vectors and hashes (see `growth_data.py`), with
100,000 seeds and 10,000 held-out images. Then the stages after `score` run in one separate process
with a local Spark, one worker per core. The parameters stay the same for every size. The exponent is
the slope of log seconds over log rows, from the previous size to this one.

`planned` is what `curation plan --cost` says, with the rates of this machine (`curation calibrate`)
and with what only the data can show taken from the run: shares of images that are distinct and clean,
and near pairs of an image. Recall is the share of planted copies whose component is that of their
original. Memory is the peak of the driver's Python, of the largest Python worker, and of Java.

With `--store`, hashes have the statistics of those of a store, as in `benchmarks.hashes`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from argparse import SUPPRESS, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import pyplot as plt

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.growth_data import COPY_EVERY, DIM, TINY, Scale, fill, growth_recipe, image_ids
from benchmarks.machine import conditions
from benchmarks.measure import measured, workers
from benchmarks.planted_hashes import hash_statistics
from benchmarks.tables import run_step
from curation.algorithms.arrays.ids import to_ids
from curation.engine.table import open_table
from curation.flow import plan
from curation.inspect.cost.calibrate import calibrate
from curation.inspect.cost.encoder_profiles import EncoderProfile
from curation.inspect.cost.estimate import estimate
from curation.inspect.cost.rates import Assumptions, Prices, Rates, default_file, load_yaml
from curation.inspect.cost.work import rows_at_once
from curation.inspect.cost.workload import work_of_stages
from curation.stages.dedup.params import DedupParams
from curation.stages.retrieve.params import RetrieveStep
from curation.stages.tally.params import TallyStep
from curation.store.store import Store

STAGES = (
    *("neighbours", "verify", "dedup", "tally", "select", "cluster"),
    *("assign", "quantise", "index", "match", "retrieve", "assemble"),
)
PROCESSES = ("driver", "worker", "java")
Result = dict[str, Any]
"""What `measure` returns."""


def main() -> None:
    """Measure each size, and print a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="stores are written and kept here")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--store", type=Path, help="store whose hashes are imitated")
    parser.add_argument("--measure", type=Path, help=SUPPRESS)
    options = parse(parser, {"rows": [4_000, 8_000]})
    scale = TINY if options.tiny else Scale()
    if options.measure:
        print(json.dumps(measure(options.measure, options.rows[0], scale)))
        return
    print(conditions())
    with folder_or_temporary(options.folder) as folder:
        results = compare(folder, options, scale)
    if options.figure:
        _draw(results, options.figure)


def compare(folder: Path, options: Namespace, scale: Scale) -> dict[int, Result]:
    """Measure each size, print its seconds by stage, and return the results by rows."""
    rates = calibrate()
    results: dict[int, Result] = {}
    for rows in options.rows:
        store = folder / str(rows)
        shutil.rmtree(store, ignore_errors=True)
        fill(Store(store), rows, scale, hash_statistics(options.store))
        command = [sys.executable, "-m", "benchmarks.growth", *(["--tiny"] if options.tiny else [])]
        process = subprocess.run(
            [*command, "--rows", str(rows), "--measure", str(store)],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"MALLOC_ARENA_MAX": "2"},
        )
        results[rows] = json.loads(process.stdout.splitlines()[-1])
        results[rows]["planned"] = planned(rows, scale, results[rows], rates)
        _print_stages(rows, results[rows])
    _print_sums(results)
    return results


def measure(folder: Path, rows: int, scale: Scale) -> Result:
    """Run the stages on a filled store.

    Returns:
        seconds and rows by stage, peak memory in GiB, and how much of the planted truth the run finds.
    """
    store, parallel = Store(folder), workers()
    seconds: dict[str, float] = {}
    written: dict[str, int] = {}
    memory: dict[str, Any] = {}
    with measured(memory):
        for step in plan(growth_recipe(rows, scale)):
            if step.name in STAGES:
                started = time.perf_counter()
                written[step.name] = run_step(step, store, parallel).rows
                seconds[step.name] = time.perf_counter() - started
                print(f"{step.name}: {seconds[step.name]:.1f} s", file=sys.stderr, flush=True)
    parallel.stop()
    return {"seconds": seconds, "rows": written, "memory": memory} | _truth(store, rows, scale)


def _truth(store: Store, rows: int, scale: Scale) -> Result:
    """Return the recall of planted copies, and the shares of images in components and eligible."""
    copies = _pool(store, "copies", ["pair_id", "component_id"])
    pair_id, component_id = (to_ids(copies.column(name)) for name in copies.column_names)
    order = np.argsort(pair_id)
    pair_id, component_id = pair_id[order], component_id[order]
    last = np.concatenate(
        [
            np.arange(first + COPY_EVERY - 1, min(first + scale.fragment_rows, rows), COPY_EVERY)
            for first in range(0, rows, scale.fragment_rows)
        ]
    )
    ids = image_ids("pool", 0, rows)
    at = [
        np.searchsorted(pair_id, ids[n]).clip(0, len(pair_id) - 1)
        for n in (last, last - COPY_EVERY + 1)
    ]
    present = (pair_id[at[0]] == ids[last]) & (pair_id[at[1]] == ids[last - COPY_EVERY + 1])
    sizes = np.unique(component_id, return_counts=True)[1]
    eligible = pc.sum(pc.equal(_pool(store, "eligible", ["status"]).column(0), "eligible"))
    return {
        "recall": float((present & (component_id[at[0]] == component_id[at[1]])).mean()),
        "in_components": float(sizes[sizes > 1].sum()) / rows,
        "eligible": eligible.as_py() / rows,
    }


def _pool(store: Store, name: str, columns: list[str]) -> pa.Table:
    """Return columns of the rows of the pool."""
    fragments = open_table(store, name).fragments.items()
    return pa.concat_tables(
        [part.read(columns) for key, part in fragments if key.startswith("web-")]
    )


def planned(rows: int, scale: Scale, result: Mapping[str, Any], rates: Rates) -> dict[str, float]:
    """Return the seconds of each stage that the plan expects on the cores of this machine."""
    assumptions = Assumptions(
        fetched=1,
        distinct=result["eligible"],
        clean=1,
        near_pairs=result["rows"]["neighbours"] / rows,
        rows_per_fragment=scale.fragment_rows,
    )
    encoders = {"semantic": EncoderProfile(DIM, 0)}
    works = work_of_stages(growth_recipe(rows, scale), encoders, assumptions)
    costs = estimate(works, rates, load_yaml(Prices, default_file("prices")), 1)
    images = rows + scale.seeds + scale.held_out
    return {
        cost.work.stage: cost.cpu_hours * 3600 / _processes(cost.work.stage, images)
        for cost in costs
        if cost.work.stage in STAGES
    }


def _processes(stage: str, images: int) -> int:
    """Return how many processes work on a stage: one where the driver decides all rows alone."""
    at_once = {
        "dedup": DedupParams().rows_at_once,
        "tally": TallyStep().rows_at_once,
        "retrieve": rows_at_once(RetrieveStep),
    }
    return 1 if images <= at_once.get(stage, 0) else os.cpu_count() or 1


def _print_stages(rows: int, result: Result) -> None:
    memory = result["memory"]
    print(f"\n{rows:,} rows\n\n| stage | rows | s | planned, s | measured / planned |")
    print("|---|---|---|---|---|")
    for stage in STAGES:
        seconds, expected = result["seconds"][stage], result["planned"][stage]
        ratio = f"{seconds / expected:.2f}" if expected else "–"
        print(f"| {stage} | {result['rows'][stage]:,} | {seconds:.1f} | {expected:.1f} | {ratio} |")
    print(
        f"\nrecall of planted copies {result['recall']:.4f}; in components of "
        f"copies {result['in_components']:.3f}, eligible {result['eligible']:.3f} of the pool; "
        "peak memory in GiB: " + ", ".join(f"{name} {memory[name]:.2f}" for name in PROCESSES),
        flush=True,
    )


def _print_sums(results: dict[int, Result]) -> None:
    print("\n| rows | all stages, s | planned, s | exponent | largest process, GiB |")
    print("|---|---|---|---|---|")
    last: tuple[int, float] | None = None
    for rows, result in results.items():
        total, expected = (sum(result[name].values()) for name in ("seconds", "planned"))
        exponent = "–"
        if last:
            exponent = f"{np.log(total / last[1]) / np.log(rows / last[0]):.2f}"
        peak = max(result["memory"][name] for name in PROCESSES)
        print(f"| {rows:,} | {total:.1f} | {expected:.1f} | {exponent} | {peak:.2f} |")
        last = rows, total


def _draw(results: dict[int, Result], path: Path) -> None:
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    rows = list(results)
    for stage in STAGES:
        left.loglog(rows, [results[r]["seconds"][stage] for r in rows], marker="o", label=stage)
    for name, style in (("seconds", "-"), ("planned", ":")):
        total = [sum(results[r][name].values()) for r in rows]
        label = {"seconds": "all", "planned": "all, planned"}[name]
        left.loglog(rows, total, style, marker="o", color="black", linewidth=2.5, label=label)
    left.set(xlabel="images in the pool", ylabel="seconds")
    left.legend(fontsize=7, ncols=2)
    for process in PROCESSES:
        memory = [results[r]["memory"][process] for r in rows]
        right.semilogx(rows, memory, marker="o", label=process)
    right.axhline(4, color="#b4b4b4", linestyle="--")
    right.set(xlabel="images in the pool", ylabel="peak memory, GiB", ylim=(0, None))
    right.legend(fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
