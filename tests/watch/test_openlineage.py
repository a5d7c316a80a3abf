"""Lineage events name exactly what each stage read and wrote, and reach a file or a server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from curation.errors import RecipeError
from curation.runner.observer import RunObserver
from curation.runner.step import StepResult
from curation.secrets import forget_secrets, note_settings
from curation.store.store import Store
from curation.telemetry.event_sink import EventServer, open_sink
from curation.telemetry.openlineage import FACETS, LineageEvents, dataset_of, error_facet
from curation.telemetry.parent_run import ParentRun, parent_of_settings, parse_parent

from .conftest import RECIPE, Watch, names

Event = dict[str, Any]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def lineage(tmp_path: Path, target: Path, parent: ParentRun | None = None) -> LineageEvents:
    return LineageEvents(Store(tmp_path / "store"), open_sink(str(target)), parent, "ns")


def read(target: Path) -> list[Event]:
    events = [json.loads(line) for line in target.read_text().splitlines()]
    for event in events:
        check(event)
    return events


def check(event: Event) -> None:
    """Check what the specification asks of a run event and of its facets."""
    assert set(event) <= {
        *("eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs")
    }
    assert event["eventType"] in ("START", "COMPLETE", "FAIL")
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    assert (
        event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
    )
    assert UUID(event["run"]["runId"]).version is not None
    assert event["job"]["namespace"] and event["job"]["name"]
    holders = [event["run"]["facets"], event["job"]["facets"]]
    for dataset in (*event.get("inputs", []), *event.get("outputs", [])):
        assert dataset["namespace"] and dataset["name"]
        holders += [v for k, v in dataset.items() if k.lower().endswith("facets")]
    for facet in (f for facets in holders for f in facets.values()):
        assert facet["_producer"] == event["producer"]
        kind = facet["_schemaURL"].rpartition("/")[2]
        assert facet["_schemaURL"] == (
            f"https://openlineage.io/spec/facets/{FACETS[kind]}/{kind}.json#/$defs/{kind}"
        )


def version(dataset: Event) -> tuple[str, str]:
    return dataset["name"].rpartition("/")[2], dataset["facets"]["version"]["datasetVersion"]


def rows(dataset: Event, kind: str) -> int:
    count: int = dataset[f"{kind}Facets"][f"{kind}Statistics"]["rowCount"]
    return count


def check_complete(event: Event, result: StepResult, known: dict[tuple[str, str], int]) -> None:
    """Check the event of a stage against what it did; `known` has the rows of versions."""
    tables = [d for d in event["inputs"] if "/tables/" in d["name"]]
    assert dict(map(version, tables)) == dict(result.reads)
    assert set(result.reads) == set(result.step.inputs)
    assert [rows(d, "input") for d in tables] == [known[version(d)] for d in tables]
    outputs = {(m.table, m.version): m.rows for m in result.manifests}
    assert {version(d): rows(d, "output") for d in event["outputs"]} == outputs
    known |= outputs


def test_each_stage_has_a_start_and_an_end_with_exact_tables(
    tmp_path: Path, target: Path, watch: Watch
) -> None:
    results = watch(lineage(tmp_path, target))
    events = read(target)
    stages = [f"{RECIPE}.{name}" for name in names(results)]
    assert [(e["eventType"], e["job"]["name"]) for e in events] == [
        ("START", RECIPE),
        *[(kind, stage) for stage in stages for kind in ("START", "COMPLETE")],
        ("COMPLETE", RECIPE),
    ]
    run = events[0]["run"]["runId"]
    assert "parent" not in events[0]["run"]["facets"]
    known: dict[tuple[str, str], int] = {}
    for result, start, end in zip(results, events[1:-1:2], events[2:-1:2], strict=True):
        assert start["run"]["runId"] == end["run"]["runId"] != run
        for event in (start, end):
            parent = event["run"]["facets"]["parent"]
            assert parent["run"]["runId"] == parent["root"]["run"]["runId"] == run
        check_complete(end, result, known)
    assert events[2]["inputs"] == [{"namespace": "file", "name": str(tmp_path / "list.parquet")}]
    # A run with nothing to do read and wrote the same versions.
    again = watch(lineage(tmp_path, target))
    assert all(result.up_to_date for result in again)
    repeated = read(target)[len(events) :]
    assert repeated[0]["run"]["runId"] != run
    for result, end in zip(again, repeated[2:-1:2], strict=True):
        check_complete(end, result, dict(known))


def test_a_stage_that_fails_says_why_without_secrets(
    tmp_path: Path, target: Path, watch: Watch
) -> None:
    with suppress(RuntimeError):
        watch(lineage(tmp_path, target), fail="fetch")
    *_, stage, run = read(target)
    assert (stage["eventType"], stage["job"]["name"]) == ("FAIL", f"{RECIPE}.fetch")
    assert (run["eventType"], run["job"]["name"]) == ("FAIL", RECIPE)
    message = stage["run"]["facets"]["errorMessage"]["message"]
    assert message == "RuntimeError: no space at https://***@host/fetch"


def test_an_error_that_quotes_a_secret_alone_is_masked() -> None:
    note_settings({"API_KEY": "Zq8vKp2mX4rTn7wB"})
    facet = error_facet(RuntimeError("denied for Zq8vKp2mX4rTn7wB"))
    forget_secrets()
    assert facet["message"] == "RuntimeError: denied for ***"


def test_the_parent_that_airflow_names_is_that_of_the_run_and_the_root_of_its_stages(
    tmp_path: Path, target: Path, watch: Watch
) -> None:
    ids = str(uuid4()), str(uuid4())
    settings = {
        "spark.openlineage.parentJobNamespace": "airflow",
        "spark.openlineage.parentJobName": "dag.task",
        "spark.openlineage.parentRunId": ids[0],
        "spark.openlineage.rootParentJobNamespace": "airflow",
        "spark.openlineage.rootParentJobName": "dag",
        "spark.openlineage.rootParentRunId": ids[1],
        "spark.app.name": "x",
    }
    watch(lineage(tmp_path, target, parent_of_settings(settings)), until="ingest")
    events = read(target)
    root = {"run": {"runId": ids[1]}, "job": {"namespace": "airflow", "name": "dag"}}
    parents = [event["run"]["facets"]["parent"] for event in events]
    assert [p["root"] for p in parents] == [root] * 4
    assert [p["job"]["name"] for p in parents] == ["dag.task", RECIPE, RECIPE, "dag.task"]
    assert parents[0]["run"]["runId"] == ids[0]


def test_parents_are_read_or_refused() -> None:
    run_id = str(uuid4())
    parent = parse_parent(f"airflow/dag.task/{run_id}")
    assert (parent.run.namespace, parent.run.job) == ("airflow", "dag.task")
    assert str(parent.run.run_id) == run_id
    assert parent.root == parent.run
    assert parent_of_settings({"spark.app.name": "x"}) is None
    for text in ("", "a/b", f"a/{run_id}", "a/b/no-uuid", f"/b/{run_id}"):
        with pytest.raises(RecipeError, match="NAMESPACE/JOB/RUN-ID"):
            parse_parent(text)
    with pytest.raises(RecipeError, match=r"^OPENLINEAGE_PARENT_ID 'a/b' is no parent"):
        parse_parent("a/b", "OPENLINEAGE_PARENT_ID")
    with pytest.raises(RecipeError, match=r"Set all of spark\.openlineage\.parentJobNamespace"):
        parent_of_settings({"spark.openlineage.parentRunId": run_id})


@pytest.mark.parametrize(
    ("address", "namespace", "name"),
    [
        ("s3://bucket/a/tables/pairs", "s3://bucket", "a/tables/pairs"),
        ("s3://bucket/tables/pairs?region=x", "s3://bucket", "tables/pairs"),
        ("/data/tables/pairs", "file", "/data/tables/pairs"),
        ("https://h.example/l.csv?part=1", "https://h.example", "l.csv?part=1"),
        ("abfs://c@a.dfs.core.windows.net/x", "abfs://c@a.dfs.core.windows.net", "x"),
    ],
)
def test_datasets_are_named_as_the_specification_says(
    address: str, namespace: str, name: str
) -> None:
    assert dataset_of(address) == {"namespace": namespace, "name": name}


class Collector(ThreadingHTTPServer):
    """A server for events."""

    status = 201

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None, Event]] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    server: Collector

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Authorization"]
        self.server.requests.append((self.path, key, json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Location", f"{self.server.url}/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_events_are_posted_with_the_key(
    tmp_path: Path, watch: Watch, server: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "k3y-of-tests")
    watch(LineageEvents(Store(tmp_path / "store"), open_sink(server.url), None), until="ingest")
    paths, keys, events = zip(*server.requests, strict=True)
    assert set(paths) == {"/api/v1/lineage"}
    assert set(keys) == {"Bearer k3y-of-tests"}
    assert [e["eventType"] for e in events] == ["START", "START", "COMPLETE", "COMPLETE"]
    assert {e["job"]["namespace"] for e in events} == {"curation"}


@pytest.mark.parametrize("status", [307, 400, 500])
def test_a_server_that_refuses_an_event_is_a_warning(
    server: Collector, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.status = status
    EventServer(f"{server.url}/own/path").send({"a": 1})
    # No redirect is followed, which would carry the key to another server.
    assert [path for path, _, _ in server.requests] == ["/own/path"]
    assert f"was not taken by {server.url}/own/path: HTTP Error {status}" in caplog.text


def test_a_server_that_is_not_there_is_a_warning(
    tmp_path: Path, watch: Watch, caplog: pytest.LogCaptureFixture, unused_port: int
) -> None:
    sink = open_sink(f"http://127.0.0.1:{unused_port}")
    watch(LineageEvents(Store(tmp_path / "store"), sink, None), until="ingest")
    assert "1 lineage events wait, because http://127.0.0.1" in caplog.text
    assert "4 lineage events are lost, because http://127.0.0.1" in caplog.text
    assert caplog.text.count("does not take any") == 2


def test_a_server_that_hangs_holds_a_run_up_twice_at_most(
    tmp_path: Path,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("curation.telemetry.event_sink.TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = EventServer(f"http://127.0.0.1:{silent.getsockname()[1]}")
        watch(LineageEvents(Store(tmp_path / "store"), sink, None))
    assert caplog.text.count("timed out") == 2


def test_a_server_that_drips_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("curation.telemetry.event_sink.TIMEOUT_S", 0.3)
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stop.wait(0.05):
                connection.sendall(b"X: y\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        started = time.monotonic()
        EventServer(f"http://127.0.0.1:{server.getsockname()[1]}").send({"a": 1})
        assert time.monotonic() - started < 30
        stop.set()
        thread.join()
    assert "no answer within 0.3 s" in caplog.text


def test_events_wait_for_a_server_that_comes_back(
    tmp_path: Path, watch: Watch, server: Collector
) -> None:
    server.status = 503
    events = LineageEvents(Store(tmp_path / "store"), open_sink(server.url), None)
    watch(events, Recovers(server), until="ingest")
    kinds = [event["eventType"] for _, _, event in server.requests]
    assert kinds == ["START", "START", "START", "COMPLETE", "COMPLETE"]


class Recovers(RunObserver):
    """Lets a server take events from the end of the first stage on."""

    def __init__(self, server: Collector) -> None:
        self._server = server

    def step_ended(self, result: StepResult) -> None:
        """See `RunObserver.step_ended`."""
        self._server.status = 200


@pytest.fixture
def unused_port() -> int:
    with Collector() as server:
        return server.server_port


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("s3://bucket/events", "path of a local file, or an http"),
        ("http://user:pw@host", "OPENLINEAGE_API_KEY"),
        ("http://", "no address of a server"),
        ("no/such/folder/events.jsonl", "cannot be written: No such file"),
    ],
)
def test_other_targets_are_refused(target: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        open_sink(target)


APPEND = """
import sys
from curation.telemetry.event_sink import open_sink
sink = open_sink(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    sink.send({"run": sys.argv[2], "text": sys.argv[2] * 20_000})
"""


def test_events_of_runs_at_once_do_not_mix_in_a_file(target: Path) -> None:
    """Tasks of Airflow have one file; an event of a wide recipe is longer than a buffer."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, str(target), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    events = [json.loads(line) for line in target.read_text().splitlines()]
    assert Counter(event["run"] for event in events) == dict.fromkeys("abc", 200)
    assert all(event["text"] == event["run"] * 20_000 for event in events)
