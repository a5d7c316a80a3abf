"""Whole runs of a tiny recipe in this process, and what a store holds."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan, run_fingerprint
from curation.recipe import Recipe, parse_recipe
from curation.runner.gc.collect import Collected, collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.removal_list import Tally, total
from curation.runner.step import StepResult, planned_steps, run_step
from curation.store.run_log import Recompute, read_runs, recorded_run
from curation.store.run_record import RunRecord
from curation.store.step_log import Waiting
from curation.store.store import Store

from ..e2e.small import encoded, picture, write_rows

NOW = Retention(grace_s=0.0)
"""Keeps the latest run of each recipe, and nothing for a grace period."""


def build_tiny(folder: Path) -> dict[str, Any]:
    """Write eight pictures of a pool, one copy and three seeds; return the recipe."""
    rng = np.random.default_rng(3)
    files = [encoded(picture(n % 3, rng, side=80)) for n in range(8)]
    rows = [{"key": f"p{n}", "image": f, "caption": f"number {n}"} for n, f in enumerate(files)]
    write_rows(folder / "pool" / "a.parquet", [*rows, rows[0] | {"key": "again"}])
    seeds = [encoded(picture(1, rng, side=80)) for _ in range(3)]
    rows = [{"key": f"s{n}", "image": f, "caption": "seed"} for n, f in enumerate(seeds)]
    write_rows(folder / "seeds.parquet", rows)
    columns = {"image": "image", "caption": "caption", "key": "key"}
    place = {"format": "parquet", "columns": columns}
    return {
        "name": "tiny",
        "sources": [
            {"name": "web", "role": "pool", "path": str(folder / "pool"), **place},
            {"name": "round", "role": "seed", "path": str(folder / "seeds.parquet"), **place},
        ],
        "ingest": {"rows_per_fragment": 4},
        "embed": {"batch_size": 4, "encoders": {"semantic": {"model": "vit_micro"}}},
        "dedup": {"near": {"encoder": "semantic", "at_least": 0.999}},
        "cluster": {"levels": [2]},
        "retrieve": [
            {"name": "near", "seeds": "round", "strategy": "sample", "k": 2},
            {
                "name": "cells",
                "seeds": "round",
                "strategy": "cluster",
                "per_cluster": 2,
                "more_than": 0,
            },
        ],
        "assemble": {"pixels": True},
    }


def edited(spec: dict[str, Any], **blocks: Any) -> dict[str, Any]:
    """Return a recipe with other blocks."""
    return copy.deepcopy(spec) | blocks


def run_recipe(
    spec: dict[str, Any],
    store: Path | Store,
    until: str | None = None,
    waiting: Waiting | None = None,
    is_planned: bool = True,
    force: bool = False,
) -> tuple[RunRecord, dict[str, StepResult]]:
    """Run a recipe as `curation run` does; return its record, and what each stage did."""
    recipe = recipe_of(spec)
    opened = store if isinstance(store, Store) else Store(store)
    steps = plan(recipe, until=until)
    fingerprint = run_fingerprint(recipe)
    planned = planned_steps(steps) if is_planned else {}
    with recorded_run(opened, recipe.name, fingerprint, planned) as run:
        run.recompute = Recompute(force)
        results = {s.name: run_step(s, opened, InProcess(), run, waiting) for s in steps}
    return run.record, results


def recipe_of(spec: dict[str, Any]) -> Recipe:
    """The recipe of a dictionary, which stays as it is."""
    return parse_recipe(copy.deepcopy(spec))


def contents(store: Path | Store, record: RunRecord) -> dict[str, Any]:
    """All rows of every table of a run, by table."""
    opened = store if isinstance(store, Store) else Store(store)
    return {
        table: open_table(opened, table, version).read().to_pylist()
        for table, version in record.tables.items()
    }


def runs_of(store: Path) -> list[str]:
    """The names of the runs of a store, the latest first."""
    return [record.run for record in read_runs(Store(store))]


def files_of(folder: Path) -> dict[str, int]:
    """The files of a store with their sizes, without what gc writes itself."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    return {path: size for path, size in sizes.items() if not path.startswith("steps/gc/")}


def digest_of(folder: Path) -> dict[str, str]:
    """The checksums of the files of a folder."""
    return {p: hashlib.sha256((folder / p).read_bytes()).hexdigest() for p in files_of(folder)}


def copied(store: Path, target: Path) -> Path:
    """A copy of a store, with the times of its files."""
    shutil.copytree(store, target)
    return target


def gc(store: Path | Store, retention: Retention = NOW, **options: Any) -> Collected:
    """Remove what no kept run needs."""
    return collect(store if isinstance(store, Store) else Store(store), retention, **options)


def sum_of(tallies: Mapping[str, Tally]) -> Tally:
    """The sum of the tallies of all parts."""
    return total(tallies.values())
