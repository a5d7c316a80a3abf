"""Runs a case: the run that meets the fault, those that follow, and what the store holds afterwards."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from benchmarks.object_store import server as object_store
from curation.store.store import Store
from curation.store.verification import verify_store
from tests.damage.finished import build_sources, tables_of
from tests.e2e.standalone import SECRET, Standalone

from .cases import Case
from .forked import run_forked
from .hook.fault_hook import HAPPENED, SECOND
from .servers import watched

ROOT = Path(__file__).resolve().parents[2]
HOOK = Path(__file__).resolve().parent / "hook"
RUN_HERE = "tests.faults.run_here"
ATTEMPTS = 4
"""Runs after the fault within which one must end well."""
LIMIT_S = 300


@dataclass(frozen=True)
class World:
    """What all cases share.

    Attributes:
        folder: for their files.
        spec: the recipe.
        tables: rows of the tables of a run without faults.
        operations: number of operations of each stage in that run.
        cluster: the cluster file of runs on Spark.
        filer: where the S3 server keeps its files.
    """

    folder: Path
    spec: dict[str, Any]
    tables: dict[str, pa.Table]
    operations: dict[str, int]
    cluster: Path
    filer: str

    @property
    def recipe(self) -> Path:
        """The file of the recipe."""
        return self.folder / "recipe.yaml"

    def command(self, workers: str, store: str, cluster: Path | None = None) -> list[str]:
        """Return the command of a run; without a cluster file, that of local Spark."""
        if workers == "here":
            return [sys.executable, "-m", RUN_HERE, str(self.recipe), store]
        run = [sys.executable, "-m", "curation.cli", "run", str(self.recipe)]
        return [*run, "--store", store, "--cluster", str(cluster or self.cluster)]


@contextmanager
def built_world(folder: Path) -> Iterator[World]:
    """Make the sources and the recipe, run it without faults, and run an S3 server meanwhile.

    Args:
        folder: for all files.
    """
    with object_store.running() as server, object_store.credentials():
        yield _build(folder, server.filer)


def _build(folder: Path, filer: str) -> World:
    spec = build_sources(folder / "sources")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(spec))
    local = {"spark.ui.enabled": False, "spark.driver.host": "127.0.0.1"}
    cluster = folder / "spark.yaml"
    cluster.write_text(yaml.safe_dump({"master": "local[2]", "conf": local}))
    empty = World(folder, spec, {}, {}, cluster, filer)
    log, store = folder / "alone.log", folder / "alone"
    # A fault that never happens, so that operations are counted.
    done = call(empty.command("here", str(store)), {"kind": "flip", "stage": "", "log": str(log)})
    assert done.returncode == 0, done.stdout
    counts: Counter[str] = Counter()
    stage = ""
    for line in log.read_text().splitlines():
        stage = line.removeprefix("stage ") if line.startswith("stage ") else stage
        counts[stage] += line == "operation"
    return World(folder, spec, tables_of(spec, Store(store)), dict(counts), cluster, filer)


def call(
    command: list[str], fault: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own, with a fault or without."""
    environment = {**os.environ, **object_store.ENVIRONMENT, "CURATION_SPARK_SECRET": SECRET}
    if RUN_HERE in command:
        if fault:
            environment["CURATION_FAULT"] = json.dumps(fault)
        recipe, store = command[-2:]
        with tempfile.TemporaryDirectory() as folder:
            return run_forked(recipe, store, environment, Path(folder) / "out", LIMIT_S)
    if fault:
        environment["CURATION_FAULT"] = json.dumps(fault)
        paths = (str(HOOK), environment.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.run(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        check=False,
        timeout=LIMIT_S,
    )


def run_case(world: World, case: Case) -> str:
    """Run a case; return what is wrong afterwards, or an empty text."""
    folder = world.folder / f"case-{case.seed}"
    folder.mkdir()
    try:
        with (
            _store(world, case, folder) as (store, of_store),
            _workers(world, case, folder) as (cluster, of_cluster),
        ):
            about = of_store | of_cluster | {"log": str(folder / "log")}
            problem = _run_case(world, case, store, about, cluster)
        if not problem:
            shutil.rmtree(folder)
    except Exception as error:
        problem = repr(error)
    return problem


def _run_case(world: World, case: Case, address: str, about: dict[str, Any], cluster: Path) -> str:
    command = world.command(case.workers, address, cluster)
    fault = {"kind": case.fault, "stage": case.stage, "number": case.number, "seed": case.seed}
    fault |= about | {"store": address, "second": command}
    faulty = _faulty(cluster, fault) if case.workers == "standalone" else cluster
    first = call(world.command(case.workers, address, faulty), fault)
    lines = Path(about["log"]).read_text().splitlines()
    if HAPPENED not in lines:
        return f"the fault did not happen: {first.stdout[-2000:]}"
    return (
        _end_well(command, Store(address))
        or _second_ends(lines)
        or _differences(world, Store(address))
    )


def _second_ends(lines: list[str]) -> str:
    """Wait for the second run, which may outlive the first and those after it."""
    second = next((int(line.split()[1]) for line in lines if line.startswith(f"{SECOND} ")), None)
    if second is None:
        return ""
    try:
        process = os.pidfd_open(second)
    except ProcessLookupError:
        return ""
    try:
        ended, _, _ = select.select([process], [], [], LIMIT_S)
    finally:
        os.close(process)
    return "" if ended else f"the second run, process {second}, does not end"


def _end_well(command: list[str], store: Store) -> str:
    """Run until a run ends well and the store is whole; return what is wrong then."""
    output = ""
    for _ in range(ATTEMPTS):
        done = call(command)
        output = done.stdout[-2000:]
        if done.returncode == 0 and not verify_store(store, set_aside=True):
            return ""
    return f"no run ends well: {output}"


def _differences(world: World, store: Store) -> str:
    """Return which tables differ from those of a run without faults."""
    tables = tables_of(world.spec, store)
    return ", ".join(
        f"table {name} differs" for name in world.tables if tables.get(name) != world.tables[name]
    )


def _faulty(cluster: Path, fault: dict[str, Any]) -> Path:
    """Return a cluster file of the same cluster, whose executors meet a fault."""
    spec = yaml.safe_load(cluster.read_text())
    paths = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
    variables = {"CURATION_FAULT": json.dumps(fault), "PYTHONPATH": paths}
    spec["conf"] |= {f"spark.executorEnv.{name}": value for name, value in variables.items()}
    path = cluster.with_name("faulty.yaml")
    path.write_text(yaml.safe_dump(spec))
    return path


@contextmanager
def _workers(world: World, case: Case, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the cluster file of a case, and what a fault needs to know of the cluster."""
    if case.workers != "standalone":
        yield world.cluster, {}
        return
    cluster = Standalone(folder)
    try:
        cluster.start()
        path = folder / "cluster.yaml"
        path.write_text(yaml.safe_dump(cluster.cluster_file))
        # Each worker is the first process of a session.
        yield path, {"workers": [process.pid for process in cluster.processes[1:]]}
    finally:
        cluster.stop()


@contextmanager
def _store(world: World, case: Case, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the address of an empty store, and what a fault needs to know of it."""
    if case.store == "disk":
        yield str(folder / "store"), {}
        return
    # A server that is killed whole is of this case alone.
    if case.fault == "kill_server":
        server = object_store.whole_server(folder)
    else:
        server = object_store.gateway(folder, world.filer)
    with watched(server, folder) as process_file:
        address = object_store.address(server.port, f"store-{uuid.uuid4().hex[:8]}")
        yield address, {"server": str(process_file)}
