"""A finished run on a few drawings, small enough that it is run again hundreds of times."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import run_fingerprint
from curation.recipe import parse_recipe
from curation.runner.step import StepResult
from curation.store.clock import SystemClock
from curation.store.holder import this_process
from curation.store.run_log import latest_run, save_record
from curation.store.run_record import new_run
from curation.store.step_log import StepLog, Waiting
from curation.store.store import Store

from .. import runs
from ..e2e.small import encoded, picture, write_rows

FAMILIES = 3
COLUMNS = {"image": "image", "caption": "caption", "key": "key"}


def build_sources(folder: Path) -> dict[str, Any]:
    """Write a pool of 11 pictures, of which three are copies, and three seeds; return the recipe."""
    rng = np.random.default_rng(0)
    pictures = [picture(n % FAMILIES, rng) for n in range(8)]
    files = [encoded(image) for image in pictures]
    files += [*files[:2], encoded(pictures[2], quality=60)]
    seeds = [encoded(picture(0, rng)) for _ in range(3)]
    for name, images in (("pool", files), ("seeds", seeds)):
        rows = [
            {"image": image, "caption": f"{name} {n}", "key": f"{name}-{n}"}
            for n, image in enumerate(images)
        ]
        write_rows(folder / f"{name}.parquet", rows)
    place = {"format": "parquet", "columns": COLUMNS}
    return {
        "name": "shapes",
        "sources": [
            {"name": "web", "role": "pool", "path": str(folder / "pool.parquet"), **place},
            {"name": "seeds", "role": "seed", "path": str(folder / "seeds.parquet"), **place},
        ],
        "ingest": {"rows_per_fragment": 8},
        "embed": {"batch_size": 4},
        "select": {"min_side": {"at_least": 64}},
        "cluster": {"levels": [3]},
        "retrieve": [
            {"name": "near", "seeds": "seeds", "strategy": "sample", "k": 3},
            {"name": "around", "seeds": "seeds", "strategy": "cluster", "per_cluster": 2},
        ],
        "assemble": {"pixels": True},
    }


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


def run_recipe(spec: dict[str, Any], store: Store, **options: Any) -> list[StepResult]:
    """Run a recipe; nobody waits for a lease in real time."""
    return runs.run_recipe(spec, store, waiting=Waiting(clock=SkippingClock()), **options)


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
