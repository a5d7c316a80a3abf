"""How long `make cluster` waits for its daemons."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import run_cluster
from scripts.run_cluster import MASTER_READY, WORKER_READY, wait_for

READY = "Starting Spark master at spark://127.0.0.1:7077"


def started(home: Path, name: str, code: str) -> subprocess.Popen[bytes]:
    """A daemon whose work is some Python."""
    with (home / f"{name}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)


def test_a_daemon_may_need_more_than_a_minute() -> None:
    assert run_cluster.READY_S >= 300


def test_a_daemon_is_ready_once_it_says_so(tmp_path: Path) -> None:
    master = started(tmp_path, "master", f"print({READY!r})")
    master.wait()
    # It may end right after it has said so: what watches the cluster sees that.
    assert wait_for(tmp_path, "master", {"master": master}, MASTER_READY).startswith("spark://")


def test_a_daemon_that_ended_is_not_waited_for(tmp_path: Path) -> None:
    master = started(tmp_path, "master", "raise OSError('java.net.BindException: in use')")
    begun = time.monotonic()
    with pytest.raises(SystemExit, match=r"The master ended: .*BindException: in use.*: see "):
        wait_for(tmp_path, "master", {"master": master}, MASTER_READY)
    assert time.monotonic() - begun < run_cluster.READY_S / 4


def test_a_worker_is_not_waited_for_once_the_master_ended(tmp_path: Path) -> None:
    """A worker asks for its master for minutes."""
    master = started(tmp_path, "master", f"print({READY!r})")
    worker = started(tmp_path, "worker-0", "import time; time.sleep(600)")
    try:
        with pytest.raises(SystemExit, match="The master ended: no reason given"):
            wait_for(tmp_path, "worker-0", {"master": master, "worker-0": worker}, WORKER_READY)
    finally:
        worker.kill()
        worker.wait()
