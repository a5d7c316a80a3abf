"""The bookkeeping of a step with many fragments, without the rows: seconds and memory.

    python -m benchmarks.bookkeeping               # 130,000 fragments: 1 GB of small files

A table `images` with many fragments is committed. Each fragment of `scores` has a completion record and
a file without rows, as after a run that was killed before its commit. Then, each in a separate process:

- `resume`: stage `screen` runs. It plans its units, finds all records, and commits the table.
- `rerun`: it runs again and finds nothing to do.
- `verify`: `curation verify-store` reads the table `scores` and the checksums of its files.
- `gc-keep`: `curation gc` finds that everything is needed.
- `gc-remove`: it removes the files and records of `scores`, because a later run made a dataset without.

Figures are of a local disk. Each phase runs three times, `gc-remove` once: seconds are medians, memory
is the largest peak.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.machine import conditions
from benchmarks.tables import commit_manifest, hand_made
from curation.engine.contract import contract
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import Step, plan
from curation.recipe import parse_recipe
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.removal_list import total
from curation.runner.map_stage import map_work
from curation.runner.step import run_step
from curation.runner.work import StepContext
from curation.store.manifest import Committed, FileEntry, FragmentRecord
from curation.store.manifest_file import record_to_json
from curation.store.run_log import StageSummary, recorded_run
from curation.store.store import DATASET, Store
from curation.store.verification import verify_store

PHASES = ("resume", "rerun", "verify", "gc-keep")


def step() -> Step:
    """Return the step `screen` of a recipe with one source."""
    source = {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}}
    recipe = parse_recipe({"name": "bookkeeping", "sources": [source]})
    return next(step for step in plan(recipe) if step.name == "screen")


def images(fragments: int) -> list[FragmentRecord]:
    """Return the records of a table whose files nobody opens."""
    return [
        FragmentRecord(
            "tables/images",
            f"web-{number:08d}",
            f"{number:032x}",
            (
                FileEntry(
                    f"tables/images/data/web-{number:08d}.{number:012x}.parquet",
                    1,
                    f"{number:064x}",
                    10_000,
                ),
            ),
            {"pool": {"ok": 9_000, "http_404": 1_000}},
            {"bytes": number},
        )
        for number in range(fragments)
    ]


def fill(store: Store, fragments: int) -> None:
    """Commit `images`, and write a completion record and a file for each fragment of `scores`."""
    records = images(fragments)
    commit_manifest(store, hand_made("images", "v1", records, {"pool": {"ok": 9_000 * fragments}}))
    tables = {"images": open_table(store, "images")}
    with recorded_run(store, "bookkeeping", "bookkeeping") as run:
        work = map_work(step(), tables, StepContext(store, InProcess(), run))
    data, done = (Path(store.uri, "tables/scores", name) for name in ("data", "done"))
    for folder in (data, done):
        folder.mkdir(parents=True)
    out = pa.BufferOutputStream()
    pq.write_table(contract("scores").arrow_schema().empty_table(), out)
    content = out.getvalue().to_pybytes()
    checksum = hashlib.sha256(content).hexdigest()
    for unit in work.units:
        (output,) = unit.outputs.values()
        path = f"tables/scores/data/{unit.name}.{checksum[:12]}.parquet"
        entry = FileEntry(path, len(content), checksum, 0)
        record = FragmentRecord(output.table_dir, unit.name, output.memo, (entry,))
        Path(store.uri, path).write_bytes(content)
        (done / f"{output.memo}.json").write_bytes(record_to_json(record))


def run_screen(store: Store) -> str:
    """Run the step; return what it did."""
    result = run_step(step(), store, InProcess(), tables={"images": open_table(store, "images")})
    return f"{result.reused:,} reused, {result.computed:,} computed"


def verify(store: Store) -> str:
    """Verify `scores`; return what was wrong."""
    return f"{len(verify_store(store, ['scores'])):,} problems"


def collect_garbage(store: Store) -> str:
    """Remove what no run needs; return how much that is."""
    tally = total(collect(store, Retention(grace_s=0.0)).tallies.values())
    return f"{tally.kept_files:,} files kept, {tally.removed_files:,} removed"


def make_dataset(store: Store) -> None:
    """Let a later run of the recipe have made a dataset, and nothing else that opens by a folder."""
    shutil.rmtree(Path(store.uri, "open"))
    store.put_version(hand_made(DATASET, "d1", [], {}))
    with recorded_run(store, "bookkeeping", "later") as run:
        run.add("assemble", StageSummary(0), {DATASET: Committed("d1", "")}, "later")


CALLS: dict[str, Callable[[Store], str]] = {
    "resume": run_screen,
    "rerun": run_screen,
    "verify": verify,
    "gc-keep": collect_garbage,
    "gc-remove": collect_garbage,
}
"""What each phase calls."""


def measure(phase: str, folder: str) -> dict[str, Any]:
    """Run a phase on a filled store; return seconds, peak memory in GiB, and what it did."""
    started = time.perf_counter()
    did = CALLS[phase](Store(folder))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak": peak, "did": did}


def measure_in_subprocess(phase: str, folder: Path) -> dict[str, Any]:
    """Measure in a separate process."""
    command = [sys.executable, "-m", "benchmarks.bookkeeping", "--measure", phase, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print a row for each phase."""
    parser = parser_of(__doc__)
    parser.add_argument("--fragments", type=int, default=130_000)
    parser.add_argument(
        "--folder", type=Path, help="where the store is made; default: a temporary one"
    )
    parser.add_argument("--measure", nargs=2, help=SUPPRESS)
    options = parse(parser, {"fragments": 500})
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    print(conditions())
    with folder_or_temporary(options.folder) as folder:
        compare(folder / "store", options.fragments)


def compare(folder: Path, fragments: int) -> None:
    """Fill a store, and run each phase three times."""
    started = time.perf_counter()
    store = Store(folder)
    fill(store, fragments)
    print(f"{fragments:,} fragments, made in {time.perf_counter() - started:.0f} s")
    results: dict[str, list[dict[str, Any]]] = {phase: [] for phase in PHASES}
    for _ in range(3):
        shutil.rmtree(folder / "steps", ignore_errors=True)
        shutil.rmtree(folder / "tables/scores/versions", ignore_errors=True)
        for phase in PHASES:
            results[phase].append(measure_in_subprocess(phase, folder))
    make_dataset(store)
    results["gc-remove"] = [measure_in_subprocess("gc-remove", folder)]
    print("\n| phase | s | peak, GiB | did |\n|---|---|---|---|")
    for phase, measurements in results.items():
        seconds = statistics.median(m["seconds"] for m in measurements)
        peak = max(m["peak"] for m in measurements)
        print(f"| {phase} | {seconds:.1f} | {peak:.2f} | {measurements[-1]['did']} |")


if __name__ == "__main__":
    main()
