"""A run killed in one stage after another ends with the same dataset as one left alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.engine.table import open_table
from curation.flow import STAGES
from curation.store.store import Store

from .conftest import Run, dataset_rows

HERE = Path(__file__).resolve().parent

# Where a stage of each kind is killed: after its second fragment, in the work of a global one, or while
# its rows are written. The others take the very same ways.
KILLS = {
    "fetch": "record tables/images 2",
    "embed": "record tables/embeddings.semantic 2",
    "verify": "record work/verify 2",
    "dedup": "write tables/copies/data 3",
    "match": "record work/match 2",
    "assemble": "record tables/dataset 2",
}


@pytest.fixture
def spec(small: dict[str, Any]) -> dict[str, Any]:
    """The recipe."""
    match = {"index": "ivf_flat", "nlist": 8, "nprobe": 4}
    return small | {"assemble": {"pixels": True, "rows_per_file": 20}, "match": match}


@pytest.fixture
def command(
    spec: dict[str, Any], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the recipe on the command line, one worker, in a process group of its own."""
    recipe, cluster = tmp_path / "small.yaml", tmp_path / "one.yaml"
    recipe.write_text(yaml.safe_dump(spec))
    conf = {"spark.ui.enabled": False, "spark.driver.host": "127.0.0.1"}
    cluster.write_text(yaml.safe_dump({"master": "local[1]", "conf": conf}))

    def call(store: Path, kill: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ)
        if kill:
            log = tmp_path / f"kill-{kill.replace(' ', '-').replace('/', '-')}"
            environment |= {"CURATION_KILL": kill, "CURATION_KILL_LOG": str(log)}
            paths = (str(HERE / "killer"), environment.get("PYTHONPATH"))
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        arguments = ["run", str(recipe), "--store", str(store), "--cluster", str(cluster)]
        return subprocess.run(
            [sys.executable, "-m", "curation.cli", *arguments],
            env=environment,
            cwd=HERE.parent.parent,
            capture_output=True,
            text=True,
            start_new_session=True,
            check=False,
        )

    return call


def reused(output: str) -> dict[str, int]:
    """How many fragments each stage found, as the command line tells it."""
    counts = re.findall(r"^  (\w+) .*?, (\d+) reused", output, re.MULTILINE)
    return {stage: int(count) for stage, count in counts}


@pytest.mark.nightly
def test_killed_in_one_stage_after_another(
    command: Callable[..., subprocess.CompletedProcess[str]],
    spec: dict[str, Any],
    run_here: Run,
    tmp_path: Path,
) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    run_here(spec, alone)
    reused_fragments: dict[str, int] = {}
    for stage in (s for s in STAGES.values() if s.name in KILLS):
        result = command(killed, KILLS[stage.name])
        assert result.returncode == -signal.SIGKILL, (stage.name, result.stderr)
        tables = [t for t in Store(killed).tables() if t.split(".")[0] == stage.writes]
        assert tables == [], f"{stage.writes} is visible though {stage.name} was killed"
        reused_fragments |= reused(result.stderr)
    last = command(killed)
    assert last.returncode == 0, last.stderr
    reused_fragments |= reused(last.stderr)
    # Each stage found the fragments that were done when it was killed.
    fragmented = [name for name in KILLS if STAGES[name].kind == "map"]
    assert {name: reused_fragments.get(name, 0) >= 2 for name in fragmented} == dict.fromkeys(
        fragmented, True
    )
    assert dataset_rows(killed) == dataset_rows(alone)
    folder = next((killed / "dataset").iterdir())
    manifest = open_table(Store(killed), "dataset").manifest
    assert manifest is not None
    committed = {f.path for r in manifest.fragments for f in r.files}
    assert {f"dataset/{folder.name}/{p.name}" for p in folder.iterdir()} == committed
