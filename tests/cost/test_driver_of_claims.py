"""The bytes that the plan expects on the driver of retrieve, beside those that a process takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.inspect.cost.claims import ROW_ON_DRIVER
from curation.store.store import Store

from .many_rows import commit_many

CODE = """
import sys
from dataclasses import replace
from curation.engine.parallel import InProcess
from curation.engine.spark_workers import SparkWorkers
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.store.store import Store
from tests.tables import run_step

sources = [
    {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}},
    {"name": "cats", "role": "seed", "format": "folder", "path": "c"},
]
arms = [
    {"name": "a", "seeds": "cats", "strategy": "sample", "k": 4},
    {"name": "b", "seeds": "cats", "strategy": "cluster", "per_cluster": 800, "cap": None},
    {"name": "c", "strategy": "hierarchical", "target": int(sys.argv[2])},
]
recipe = parse_recipe(
    {"name": "many", "sources": sources, "cluster": {"levels": [1000]}, "retrieve": arms}
)
(step,) = (step for step in plan(recipe) if step.name == "retrieve")


def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


workers = InProcess()
if sys.argv[3] == "workers":
    from pyspark.sql import SparkSession
    from curation.stages.retrieve import stage

    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    workers = SparkWorkers(lambda: spark.sparkContext)
    stage.ROWS_PER_PART = 100_000
    step = replace(step, params=step.params.model_copy(update={"rows_at_once": 1}))
before = peak()
run_step(step, Store(sys.argv[1]), workers)
print(peak() - before)
"""


def test_no_stage_of_the_paper_needs_a_large_driver_for_claims(root: Path) -> None:
    path = str(root / "conf" / "recipes" / "lvd142m.yaml")
    result = CliRunner().invoke(app, ["plan", path, "--cost", "--json", "--assume", "fetched=1"])
    stages = {s["stage"]: s["driver_bytes"] for s in json.loads(result.stdout)["stages"]}
    for stage in ("tally", "retrieve", "assemble"):
        assert 0 < stages[stage] < 2**30


def bytes_on_driver(folder: Path, root: Path, pool: int, where: str) -> tuple[int, int]:
    """Run retrieve in a process of its own; return its bytes, and the number of rows and matches."""
    rows = commit_many(Store(folder), pool)
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, str(folder), str(pool // 3), where],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]), rows


@pytest.mark.nightly
@pytest.mark.parametrize("pool", [300_000, 900_000])
def test_retrieve_takes_what_the_plan_says(tmp_path: Path, root: Path, pool: int) -> None:
    measured, rows = bytes_on_driver(tmp_path, root, pool, "driver")
    assert 0.6 * ROW_ON_DRIVER * rows < measured < 1.1 * ROW_ON_DRIVER * rows


@pytest.mark.nightly
def test_the_driver_does_not_grow_with_rows_that_workers_decide(tmp_path: Path, root: Path) -> None:
    few, rows = bytes_on_driver(tmp_path / "few", root, 150_000, "workers")
    many, more_rows = bytes_on_driver(tmp_path / "many", root, 600_000, "workers")
    # On the driver, they would take 1,250 bytes each.
    assert many - few < 50 * (more_rows - rows)
