"""What the stage neighbours costs after a pool grew, beside a run that joins all images.

    python -m benchmarks.grown --rows 1000000 --shares 0.01 0.1

The tables and the recipe are those of `benchmarks.growth`: a large pool is joined by cells, of vectors
and of hashes. The stage runs on a pool, then for each share on the pool with so many more rows, on the
same store and on a fresh one. Each run starts a local Spark with one worker per core, and its seconds
count. Recall is that of the pairs of vectors, on a sample. A fresh store trains a new quantiser.
"""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import folder_or_temporary, parse, parser_of
from benchmarks.growth_data import TINY, Scale, fill, growth_recipe
from benchmarks.machine import conditions
from benchmarks.measure import workers
from benchmarks.planted_hashes import hash_statistics
from benchmarks.tables import run_step
from curation.engine.table import open_table
from curation.flow import plan
from curation.store.store import Store


class Joined(NamedTuple):
    """Seconds of the stage, its rows, and the recall of the pairs of vectors."""

    seconds: float
    rows: int
    recall: float | None


def main() -> None:
    """Run the stage on each pool, and print a table."""
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="stores are written and kept here")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--store", type=Path, help="store whose hashes are imitated")
    options = parse(parser, {"rows": 60_000})
    print(conditions())
    with folder_or_temporary(options.folder) as folder:
        compare(folder, options, TINY if options.tiny else Scale())


def compare(folder: Path, options: Namespace, scale: Scale) -> None:
    """Print the seconds of the stage for the pool and for each larger one."""
    grown = folder / "grown"
    shutil.rmtree(grown, ignore_errors=True)
    first = join(grown, options.rows, options, scale)
    print("\n| rows | s, grown store | s, fresh store | pairs | recall, of each |")
    print("|---|---|---|---|---|")
    print(f"| {options.rows:,} | – | {first.seconds:.1f} | {first.rows:,} | {first.recall} |")
    for share in options.shares:
        rows = round(options.rows * (1 + share))
        again = join(grown, rows, options, scale)
        fresh_folder = folder / "fresh"
        shutil.rmtree(fresh_folder, ignore_errors=True)
        fresh = join(fresh_folder, rows, options, scale)
        print(
            f"| {rows:,} | {again.seconds:.1f} | {fresh.seconds:.1f} | {again.rows:,}, "
            f"{fresh.rows:,} | {again.recall}, {fresh.recall} |",
            flush=True,
        )


def join(folder: Path, rows: int, options: Namespace, scale: Scale) -> Joined:
    """Fill a store with a pool, and run the stage on it in a new Spark session.

    Args:
        folder: of the store. Fragments that are there already get the same content.
        rows: of the pool.
        options: of the command line.
        scale: of the other tables.
    """
    store = Store(folder)
    fill(store, rows, scale, hash_statistics(options.store))
    parallel = workers()
    step = next(s for s in plan(growth_recipe(options.rows, scale)) if s.name == "neighbours")
    started = time.perf_counter()
    run_step(step, store, parallel)
    seconds = time.perf_counter() - started
    parallel.stop()
    manifest = open_table(store, "neighbours").manifest
    return Joined(seconds, manifest.rows, manifest.stats["near"].get("recall"))


if __name__ == "__main__":
    main()
