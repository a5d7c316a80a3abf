"""The bytes that the plan expects on the driver of retrieve, beside those that a process takes."""

from __future__ import annotations

import json
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


before = peak()
run_step(step, Store(sys.argv[1]), InProcess())
print(peak() - before)
"""


def test_no_stage_of_the_paper_needs_a_large_driver_for_claims(root: Path) -> None:
    path = str(root / "conf" / "recipes" / "lvd142m.yaml")
    result = CliRunner().invoke(app, ["plan", path, "--cost", "--json", "--assume", "fetched=1"])
    stages = {s["stage"]: s["driver_bytes"] for s in json.loads(result.stdout)["stages"]}
    for stage in ("tally", "retrieve", "assemble"):
        assert 0 < stages[stage] < 2**30


@pytest.mark.nightly
@pytest.mark.parametrize("pool", [300_000, 900_000])
def test_retrieve_takes_what_the_plan_says(tmp_path: Path, root: Path, pool: int) -> None:
    rows = commit_many(Store(tmp_path), pool)
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, str(tmp_path), str(pool // 3)],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = int(done.stdout.split()[-1])
    assert 0.6 * ROW_ON_DRIVER * rows < measured < 1.1 * ROW_ON_DRIVER * rows
