"""The DAG has the plan's edges, and runs a small recipe through spark-submit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import Step, plan
from curation.recipe import load_recipe
from curation.runner.step import run_step
from curation.store.store import Store

from ..e2e.small import build_small

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pool, its recipe and a place for its store."""
    folder = tmp_path_factory.mktemp("dag")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(build_small(folder / "web")))
    return folder


@pytest.fixture(scope="module")
def airflow(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a script in Airflow's environment, with a database of its own."""
    if not AIRFLOW.exists():
        pytest.skip("no .venv-airflow (make setup-airflow)")
    home = tmp_path_factory.mktemp("airflow")
    connection = {"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}
    environment = dict(os.environ) | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags"),
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(connection),
        "CURATION_RECIPE": str(folder / "recipe.yaml"),
        "CURATION_STORE": str(folder / "store"),
        "CURATION_HOME": str(ROOT),
        "CURATION_VENV": sys.prefix,
    }

    def call(*command: str) -> str:
        result = subprocess.run(
            [str(AIRFLOW), *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
        return result.stdout

    call("-m", "airflow", "db", "migrate")
    return call


def steps_of(folder: Path) -> tuple[Step, ...]:
    return plan(load_recipe(str(folder / "recipe.yaml")))


def result_of(output: str) -> dict[str, Any]:
    (line,) = (x for x in output.splitlines() if x.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return result


def test_edges_are_the_plans(airflow: Callable[..., str], folder: Path) -> None:
    found = result_of(airflow(str(HERE / "run_dag.py")))
    expected = sorted([u, s.name] for s in steps_of(folder) for u in s.upstream)
    assert found["edges"] == expected


def test_dag_runs_a_recipe(airflow: Callable[..., str], folder: Path) -> None:
    # A run that somebody began by hand: its stages have nothing to do, the others go on from there.
    store = Store(folder / "store")
    for step in plan(load_recipe(str(folder / "recipe.yaml")), until="select"):
        run_step(step, store, InProcess())
    found = result_of(airflow(str(HERE / "run_dag.py"), "--run"))
    assert found["states"] == {s.name: "success" for s in steps_of(folder)}
    assert open_table(store, "dataset").rows > 20
    assert list((folder / "store" / "reports").glob("*/report.html"))
