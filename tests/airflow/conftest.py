"""Airflow in its environment, with a database of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"

Run = tuple[str, dict[str, Any]]


@pytest.fixture(scope="session")
def in_airflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs Python in Airflow's environment; returns what it prints."""
    if not AIRFLOW.exists():
        pytest.skip("no .venv-airflow (make setup-airflow)")
    home = tmp_path_factory.mktemp("airflow")
    common = dict(os.environ) | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags"),
        "AIRFLOW__CORE__PARALLELISM": "2",
        "CURATION_HOME": str(ROOT),
        "CURATION_VENV": sys.prefix,
    }

    def call(*command: str, **variables: str) -> str:
        result = subprocess.run(
            [str(AIRFLOW), *command],
            cwd=home,
            env=common | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
        return result.stdout

    call("-m", "airflow", "db", "migrate")
    return call


@pytest.fixture(scope="session")
def airflow(in_airflow: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Reads DAG files and runs DAGs; returns what `run_dag.py` prints, and the seconds."""

    def read(*runs: Run, **variables: str) -> dict[str, Any]:
        started = time.monotonic()
        output = in_airflow(str(HERE / "run_dag.py"), json.dumps(runs), **variables)
        (line,) = (x for x in output.splitlines() if x.startswith("RESULT "))
        result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
        return result | {"seconds": time.monotonic() - started, "output": output}

    return read
