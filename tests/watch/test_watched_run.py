"""A real run is watched from outside while a server keeps it waiting, and tells what it did."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.spark_workers import STARTING
from curation.inspect.status import RunStatus, read_status
from curation.store.store import Store
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import OPEN, encoded, picture
from tests.ingest.helpers import source

from .test_logs import parse as parse_log
from .test_metrics import parse as parse_metrics

WAIT_S = 120.0
SOON = """
import sys
import curation.engine.spark_progress as spark_progress
import curation.store.run_log as run_log
from curation.cli import main
run_log.REFRESH_S = spark_progress.QUIET_POLL_SECONDS = spark_progress.QUIET_COUNT_SECONDS = 0.2
sys.argv = ["curation", *sys.argv[1:]]
main()
"""
"""The command line, which says every 0.2 s how far it is."""


@pytest.fixture
def gate(web: Web) -> asyncio.Event:
    """Opens the pages that keep a run waiting. Others answer at once, or are not there."""
    event = asyncio.Event()

    async def held(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await event.wait()
        writer.write(answer(encoded(picture())))

    web.pages = {f"/ok{n}": answer(encoded(picture())) for n in range(6)} | {"/held": held}
    return event


def recipe(folder: Path, web: Web) -> Path:
    """Ten URLs: six pictures, three that are not there, and one that waits."""
    urls = [web.url(f"/ok{n}") for n in range(6)] + [web.url(f"/no{n}") for n in range(3)]
    (folder / "list.txt").write_text("\n".join([*urls, web.url("/held")]) + "\n")
    listed = source(folder / "list.txt", format="txt")
    listed.pop("columns")
    spec = {"name": "birds", "sources": [listed], "fetch": OPEN | {"timeout_s": WAIT_S}}
    path = folder / "birds.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@contextmanager
def running(root: Path, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, which writes into files of the folder."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", SOON, *arguments],
            cwd=folder,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(
    store: Store, process: subprocess.Popen[bytes], holds: Callable[[RunStatus], bool]
) -> RunStatus:
    """Return the status of the run once it is as wanted."""
    pause = threading.Event()
    statuses: list[RunStatus] = []
    for _ in range(int(WAIT_S / 0.1)):
        statuses = read_status(store)
        for status in statuses:
            if holds(status):
                return status
        assert process.poll() is None, "the run has ended"
        pause.wait(0.1)
    raise AssertionError(f"it was never as wanted: {statuses}")


def starts_spark(status: RunStatus) -> bool:
    progress = status.record.progress
    return progress is not None and progress.part == STARTING


def knows_failures(status: RunStatus) -> bool:
    return status.outcomes().get("fetch", {}).get("http_404") == 3


def test_a_run_is_watched_from_outside_and_tells_what_it_did(
    web: Web, gate: asyncio.Event, tmp_path: Path, root: Path
) -> None:
    store = Store(tmp_path / "store")
    telemetry = ("--metrics", "run.prom", "--openlineage", "events.jsonl")
    command = ["run", str(recipe(tmp_path, web)), "--store", store.uri, "--until", "fetch"]
    with running(
        root, tmp_path, "--log-format", "json", *command, *telemetry, "--spark-ui"
    ) as process:
        until(store, process, starts_spark)
        status = until(store, process, knows_failures)
        assert status.state == "running" and status.record.recipe == "birds"
        progress = status.record.progress
        assert progress is not None and progress.counts is not None
        # Pictures count once they are decoded, which is done for several at once.
        assert 3 <= progress.counts.done <= 9
        assert (progress.counts.total, progress.counts.unit) == (10, "rows")
        assert progress.per_second > 0 and progress.seconds_left is not None
        assert status.lease is not None and status.lease.run == status.record.run
        assert status.lease.process == process.pid
        text = CliRunner().invoke(app, ["status", "--store", store.uri]).output
        assert "birds: running" in text and "failures  fetch: 3 http_404" in text
        check_page((tmp_path / "err").read_text())
        metrics = parse_metrics((tmp_path / "run.prom").read_text())
        assert {dict(k)["stage"] for k in metrics["curation_stage_seconds"]} == {"ingest"}
        assert web.loop is not None
        web.loop.call_soon_threadsafe(gate.set)
        assert process.wait(WAIT_S) == 0
    (status,) = read_status(store)
    assert status.state == "finished" and status.outcomes()["fetch"] == {"ok": 7, "http_404": 3}
    check_told(tmp_path, status.record.run)


def check_page(log: str) -> None:
    """Spark's page is served at the address that was printed, on loopback alone."""
    match = re.search(r"http://(127\.0\.0\.1:(\d+))", log)
    assert match is not None, log
    with urlopen(f"{match[0]}/stages/", timeout=60) as response:
        assert response.status == 200
        page = response.read().decode()
    # Other users of the machine, and pages in a browser, must not end what runs.
    assert "Active Stages (1)" in page and "kill" not in page
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    # Addresses of sockets that listen, of all processes, in hexadecimal.
    listening = [line.split()[1] for line in table.splitlines() if " 0A " in line]
    hosts = {a[:-5] for a in listening if int(a[-4:], 16) == int(match[2])}
    assert hosts <= {"0100007F", "0000000000000000FFFF00000100007F"} and hosts


def check_told(folder: Path, run: str) -> None:
    """What the run told while it worked agrees."""
    records = parse_log((folder / "err").read_text())
    stages = {r.get("stage") for r in records if r.get("run") == run}
    assert {"ingest", "fetch"} <= stages
    ended = [r for r in records if r["message"].startswith("fetch: 1 fragments computed")]
    assert [(r["logger"], r["run"], r["stage"]) for r in ended] == [
        ("curation.runner.step", run, "fetch")
    ]
    metrics = parse_metrics((folder / "run.prom").read_text())
    outcomes = {
        dict(k)["outcome"]: rows
        for k, rows in metrics["curation_stage_outcome_rows"].items()
        if dict(k)["stage"] == "fetch"
    }
    assert outcomes == {"ok": 7, "http_404": 3}
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [(e["eventType"], e["job"]["name"]) for e in events] == [
        ("START", "birds"),
        *[(kind, f"birds.{s}") for s in ("ingest", "fetch") for kind in ("START", "COMPLETE")],
        ("COMPLETE", "birds"),
    ]
