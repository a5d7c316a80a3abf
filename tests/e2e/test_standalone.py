"""A standalone cluster of two workers gives what local mode gives, also when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from curation.engine.table import open_table
from curation.store.store import Store

from ..fetch.conftest import HOSTS, Web, answer
from .conftest import Run, dataset_rows
from .small import encoded, picture, write_rows
from .standalone import SECRET, Standalone

ROOT = Path(__file__).resolve().parents[2]
# Training vectors stay in their files, so that every pass of k-means is a job over shards.
CLUSTER = {"levels": [20, 5], "iterations": 6, "memory_gib": 0, "backend": "faiss"}


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[Standalone]:
    cluster = Standalone(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def two_workers(standalone: Standalone, tmp_path: Path) -> Callable[..., Path]:
    """Runs a recipe on the command line, on the two workers; returns its store."""
    where, recipe, store = (tmp_path / name for name in ("two.yaml", "recipe.yaml", "store"))
    where.write_text(yaml.safe_dump(standalone.cluster_file))

    def call(spec: dict[str, Any], *options: str) -> Any:
        recipe.write_text(yaml.safe_dump(spec))
        arguments = ["run", str(recipe), "--store", str(store), "--cluster", str(where)]
        result = subprocess.run(
            [sys.executable, "-m", "curation.cli", *arguments, *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"CURATION_SPARK_SECRET": SECRET},
            timeout=400,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        assert SECRET not in result.stdout + result.stderr
        return store

    return call


@pytest.mark.nightly
def test_two_workers_together_ask_a_host_no_more_than_one_may(
    web: Web, two_workers: Callable[..., Path], tmp_path: Path
) -> None:
    """Hosts are skewed, and the list is cut into far more fragments than there are workers."""

    async def slowly(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        writer.write(answer(encoded(picture(0, np.random.default_rng(0)))))

    rows = []
    for number, host in enumerate(HOSTS):
        for n in range(200 if number == 0 else 20):
            web.pages[f"/{n}.jpg"] = slowly
            rows.append({"url": web.url(f"/{n}.jpg", host)})
    write_rows(tmp_path / "list.parquet", rows)
    spec = {
        "name": "hosts",
        "sources": [
            {
                "name": "web",
                "role": "pool",
                "format": "parquet",
                "path": str(tmp_path / "list.parquet"),
                "columns": {"url": "url"},
            }
        ],
        "ingest": {"rows_per_fragment": 20},
        "fetch": {
            "allow_hosts": ["127.0.0.0/8"],
            "per_host": {"concurrency": 2, "per_second": None},
        },
    }
    store = Store(two_workers(spec, "--until", "fetch"))
    statuses = open_table(store, "images").read(["status"]).column(0).to_pylist()
    assert statuses == ["ok"] * len(rows)
    assert len(open_table(store, "images").fragments) > 10
    assert {host: web.max_concurrent(host) for host in HOSTS} == dict.fromkeys(HOSTS, 2)
    assert web.max_concurrent() > 2
    assert Counter(v.path for v in web.visits(HOSTS[0])).most_common(1)[0][1] == 1


@pytest.mark.nightly
def test_a_worker_killed_in_the_middle_changes_nothing(
    small: dict[str, Any],
    run: Run,
    standalone: Standalone,
    two_workers: Callable[..., Path],
    tmp_path: Path,
) -> None:
    spec = small | {"cluster": CLUSTER}
    run(spec, tmp_path / "local")
    store = tmp_path / "store"
    with _Once(lambda: _passed_once(store), lambda: standalone.kill(0)) as did:
        two_workers(spec)
    assert did.happened, "the run was over before the worker was killed"
    assert dataset_rows(store) == dataset_rows(tmp_path / "local")
    log = (tmp_path / "master.log").read_text(errors="replace")
    assert "Registering app" in log
    assert "Removing worker" in log or "disassociated" in log


def _passed_once(store: Path) -> bool:
    """Whether k-means has kept the state after a pass."""
    return any((store / "work" / "cluster" / "data").glob("state.*"))


class _Once:
    """Does something as soon as a condition holds, beside what runs within."""

    def __init__(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        self.happened = False
        self._condition, self._action = condition, action
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            if self._condition():
                self._action()
                self.happened = True
                return

    def __enter__(self) -> _Once:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
