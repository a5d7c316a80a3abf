"""A finished run on a few drawings, small enough that it is run again hundreds of times."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from small_run import recipe_over, write_sources

from curation.engine.clock import SystemClock
from curation.engine.holder import this_process
from curation.engine.parallel import InProcess
from curation.engine.run_log import latest_run, new_run, recorded_run, save_record
from curation.engine.step_log import StepLog, Waiting
from curation.engine.store import Store
from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import plan, run_fingerprint
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step

ROWS = 12
"""Rows of the pool, of which three pairs are copies."""


def build_sources(folder: Path) -> dict[str, Any]:
    """Write a pool and seeds; return the recipe over them."""
    write_sources(folder)
    for name, rows in (("pool", [*range(ROWS - 6), *range(36, 42)]), ("seeds", range(3))):
        path = folder / f"{name}.parquet"
        pq.write_table(pq.read_table(path).take(list(rows)), path)
    recipe = recipe_over(folder)
    recipe["embed"] = {"batch_size": 4}
    recipe["cluster"] = {"levels": [3]}
    recipe["ingest"] = {"rows_per_fragment": 8}
    return recipe


class SkippingClock(SystemClock):
    """A clock on which waiting takes no time.

    A log that lost its last entry shows the lease before it, whose holder, this process, still runs.
    """

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return super().monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._skipped += seconds


def run_recipe(spec: dict[str, Any], store: Store) -> list[StepResult]:
    """Run all steps of a recipe in this process, as one run."""
    recipe = parse_recipe(spec)
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as run:
        waiting = Waiting(clock=SkippingClock())
        return [run_step(step, store, InProcess(), run, waiting) for step in plan(recipe)]


def run_until_it_ends_well(spec: dict[str, Any], store: Store) -> None:
    """Run a recipe; run it again where the first run reports a damaged file and sets it aside."""
    try:
        run_recipe(spec, store)
    except StoreError:
        run_recipe(spec, store)


def tables_of(spec: dict[str, Any], store: Store) -> dict[str, pa.Table]:
    """Return the rows of all tables of the latest finished run."""
    run = latest_run(store, "dataset", run_fingerprint(parse_recipe(spec)))
    assert run is not None
    return {name: open_table(store, name, run=run.run).read() for name in sorted(run.tables)}


def kind_of(path: str) -> str:
    """Return what is the same for all files of a kind: the path without names and digests."""
    folder, _, name = path.rpartition("/")
    folder = re.sub(r"[0-9a-f]{16,}", "*", folder)
    return f"{folder}/*{Path(name).suffix}"


def delete(path: Path) -> None:
    """Delete a file."""
    path.unlink()


def truncate(path: Path) -> None:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    """Leave nothing of a file."""
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Change the lowest bit of a byte in the middle: a digit becomes another digit."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def overwrite(path: Path) -> None:
    """Replace a file by random bytes, as many as it had."""
    path.write_bytes(random.Random(path.name).randbytes(path.stat().st_size))


DAMAGES: dict[str, Callable[[Path], None]] = {
    function.__name__: function for function in (delete, truncate, empty, flip, overwrite)
}


def leave_what_a_killed_run_leaves(store: Store, step: str) -> None:
    """Add the record, the lease and the sign of life of a run that was killed in a step."""
    record = replace(new_run("killed", "killed"), tables={})
    holder = replace(this_process(record.run), process_start=1)
    save_record(store, replace(record, holder=holder))
    log = StepLog(store, step)
    last = log.latest()
    assert log.add(replace(last, number=last.number + 1, kind="lease", holder=holder))
    store.storage.write(log.beat_path(last.number + 1), b"1")
