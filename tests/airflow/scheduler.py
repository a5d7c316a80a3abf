"""Airflow with its scheduler, as `make airflow` runs it, with one DAG of a small recipe."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from curation.store.run_log import read_runs
from curation.store.store import Store

from ..e2e.small import build_small
from .conftest import AIRFLOW, ROOT

PORT_PATTERN = re.compile(r"Airflow is at http://127\.0\.0\.1:(\d+)")
WAIT_S = 400.0
ENDED = ("success", "failed", "upstream_failed", "skipped")
DAG_FILE = """
from datetime import timedelta
from curation.airflow import curation_dag
soon = {{"retry_delay": timedelta(seconds=1), "retry_exponential_backoff": False}}
dag = curation_dag("small", recipe={recipe!r}, store={store!r}, default_args=soon)
"""


@dataclass
class Scheduler:
    """An Airflow that can be started again.

    Attributes:
        folder: for its files, and those of its runs.
        variables: added to its environment.
        query: asks its database; by default SQLite.
        process: `make airflow`'s, while it runs.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    query: Callable[[str], Sequence[tuple[Any, ...]]] | None = None
    process: subprocess.Popen[str] | None = None

    @property
    def home(self) -> Path:
        """Airflow's folder."""
        return self.folder / "home"

    @property
    def store(self) -> Path:
        """Where its runs work."""
        return self.folder / "store"

    def write_dag(self) -> None:
        """Write a recipe, and the file of its DAG."""
        recipe, dags = self.folder / "small.yaml", self.folder / "dags"
        recipe.write_text(yaml.safe_dump(build_small(self.folder / "web")))
        dags.mkdir()
        text = DAG_FILE.format(recipe=str(recipe), store=str(self.store))
        (dags / "dags.py").write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        """That of its processes, and of those who call it."""
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "CURATION_VENV": sys.prefix,
            "PYTHONUNBUFFERED": "1",
            **self.variables,
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it within a context, and end it if it has not ended."""
        command = [sys.executable, str(ROOT / "scripts" / "run_airflow.py")]
        command += ["--home", str(self.home), "--port", str(free_port())]
        command += ["--recipes", str(self.folder / "small.yaml"), "--store", str(self.store)]
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert self.process.stdout is not None
            started = any(PORT_PATTERN.search(line) for line in self.process.stdout)
            assert started, (self.home / "scheduler.log").read_text()[-3000:]
            yield
        finally:
            self.process.terminate()
            self.process.wait(60)

    def trigger(self, **conf: Any) -> bool:
        """Start a run; return whether the DAG was known already."""
        command = [str(AIRFLOW.with_name("airflow")), "dags", "trigger", "small"]
        command += ["--conf", json.dumps(conf)]
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        return done.returncode == 0

    def run(self, **conf: Any) -> dict[str, tuple[str, int]]:
        """Run the DAG to its end; return state and number of the last attempt of each task."""
        wait_for(lambda: self.trigger(**conf))
        return self.ended()

    def ended(self) -> dict[str, tuple[str, int]]:
        """Wait until the latest run has ended; return its tasks, as `run`."""
        tasks: dict[str, tuple[str, int]] = wait_for(
            lambda: (t := self.tasks()) and all(s in ENDED for s, _ in t.values()) and t
        )
        return tasks

    def tasks(self) -> dict[str, tuple[str, int]]:
        """Return state and number of the last attempt of each task of the latest run."""
        latest = "(select run_id from dag_run order by id desc limit 1)"
        rows = (self.query or self._ask_sqlite)(
            f"select task_id, state, try_number from task_instance where run_id = {latest}"
        )
        return {task: (state, int(tries)) for task, state, tries in rows}

    def _ask_sqlite(self, query: str) -> Sequence[tuple[Any, ...]]:
        place = f"file:{self.home / 'airflow.db'}?mode=ro"
        with sqlite3.connect(place, uri=True, timeout=30) as db:
            return db.execute(query).fetchall()

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

    def kill_scheduler(self) -> None:
        """Kill the scheduler; `make airflow` then ends the other processes, and itself."""
        assert self.process is not None
        (victim,) = (
            child
            for child in psutil.Process(self.process.pid).children()
            if "scheduler" in child.cmdline()
        )
        victim.send_signal(signal.SIGKILL)
        self.process.wait(120)


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


def need_airflow() -> None:
    """Skip a test where Airflow is not installed."""
    if not AIRFLOW.exists():
        pytest.skip("no .venv-airflow (make setup-airflow)")
