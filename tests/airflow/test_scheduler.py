"""Under Airflow's scheduler, a run whose processes are killed goes on and gives the same dataset."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from curation.engine.table import open_table
from curation.store.run_log import read_runs
from curation.store.store import Store

from ..e2e.small import build_small
from .conftest import AIRFLOW, ROOT

PORT_PATTERN = re.compile(r"Airflow is at http://127\.0\.0\.1:(\d+)")
WAIT_S = 400.0
DAG_FILE = """
from datetime import timedelta
from curation.airflow import curation_dag
soon = {{"retry_delay": timedelta(seconds=1), "retry_exponential_backoff": False}}
dag = curation_dag("small", recipe={recipe!r}, store={store!r}, default_args=soon)
"""


class Scheduler:
    """A running Airflow.

    Args:
        home: its folder.
        store: where its runs work.
    """

    def __init__(self, home: Path, store: Path) -> None:
        self._home, self.store = home, store

    def trigger(self) -> bool:
        """Start a run; return whether the DAG was known already."""
        command = [str(AIRFLOW.with_name("airflow")), "dags", "trigger", "small"]
        environment = {**os.environ, "AIRFLOW_HOME": str(self._home)}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        return done.returncode == 0

    def tasks(self) -> dict[str, tuple[str, int]]:
        """Return state and number of the last attempt of each task."""
        with sqlite3.connect(
            f"file:{self._home / 'airflow.db'}?mode=ro", uri=True, timeout=30
        ) as db:
            rows = db.execute("select task_id, state, try_number from task_instance").fetchall()
        return {task: (state, tries) for task, state, tries in rows}

    def driver(self, task: str) -> psutil.Process:
        """Wait for the driver of a task, and for its run to have begun; return its process."""
        known = {record.run for record in read_runs(Store(self.store))}
        first = task.partition("-")[0]

        def find() -> psutil.Process | None:
            runs = [r for r in read_runs(Store(self.store)) if r.run not in known]
            drivers = [p for p in psutil.process_iter(["cmdline"]) if self._is_driver(p, first)]
            return drivers[0] if drivers and runs else None

        process: psutil.Process = wait_for(find)
        return process

    def _is_driver(self, process: psutil.Process, first: str) -> bool:
        words = process.info["cmdline"] or []
        is_java = bool(words) and words[0].endswith("java")
        return is_java and str(self.store) in words and words[words.index("--from") + 1] == first


def wait_for(find: Callable[[], Any]) -> Any:
    """Call a function until it returns something."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        result = find()
        if result:
            return result
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    """Airflow with one DAG, of a small recipe."""
    if not AIRFLOW.exists():
        pytest.skip("no .venv-airflow (make setup-airflow)")
    home, store, recipe = tmp_path / "home", tmp_path / "store", tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(build_small(tmp_path / "web")))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "dags.py").write_text(
        DAG_FILE.format(recipe=str(recipe), store=str(store))
    )
    command = [sys.executable, str(ROOT / "scripts" / "run_airflow.py"), "--home", str(home)]
    command += ["--port", str(free_port()), "--recipes", str(tmp_path), "--store", str(store)]
    variables = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "CURATION_VENV": sys.prefix,
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        started = next((line for line in process.stdout if PORT_PATTERN.search(line)), None)
        assert started is not None, (home / "scheduler.log").read_text()
        yield Scheduler(home, store)
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.nightly
def test_a_run_whose_worker_and_driver_are_killed_goes_on(scheduler: Scheduler) -> None:
    wait_for(scheduler.trigger)
    # The driver goes on without its worker, so that the next attempt meets it at work.
    worker = scheduler.driver("ingest-fetch").parent()
    assert worker is not None
    worker.send_signal(signal.SIGKILL)
    scheduler.driver("screen-assemble").send_signal(signal.SIGKILL)
    done = ("success", "failed", "upstream_failed")
    tasks = wait_for(
        lambda: (t := scheduler.tasks()) and all(s in done for s, _ in t.values()) and t
    )
    assert tasks == {"ingest-fetch": ("success", 2), "screen-assemble": ("success", 2)}
    dataset = open_table(Store(scheduler.store), "dataset")
    assert dataset.rows > 20
    runs = list(read_runs(Store(scheduler.store)))
    assert runs[0].state == "finished"
    # No stage was computed twice: the second attempt took what the first had committed.
    versions = {v for record in runs for t, v in record.tables.items() if t == "images"}
    assert len(versions) == 1
