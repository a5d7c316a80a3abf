"""Runs a standalone Spark cluster on this machine, reachable from it alone.

    make cluster                                        # a master and two workers
    make cluster CLUSTER_PORT=7078 WORKERS=3

All processes listen on loopback, and who connects needs a secret, which is made at every start. The
folder `data/cluster` gets it, with files that runs read: `cluster.yaml` for `--cluster`, and
`spark-submit.conf` for `--properties-file`. Ctrl-C ends all processes.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyspark
import yaml

from curation.engine.cluster import load_cluster, spark_conf
from curation.engine.java import ensure_java
from scripts.daemons import alone_in, end_on_signals, stop_sessions

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
READY_S = 300.0
"""Seconds in which a daemon starts, also on a machine with much other work."""
MASTER_READY = r"Starting Spark master at (spark://\S+)"
WORKER_READY = r"Successfully registered with master (\S+)"


class Layout(NamedTuple):
    """What the cluster consists of.

    Attributes:
        home: folder of the logs, the secret and the work folders of executors.
        port: of the master; 0 takes a free one.
        web_port: of the web page of the master; 0 takes a free one.
        workers: how many there are.
        cores: of each worker.
        memory: of each worker, as Spark writes it.
    """

    home: Path
    port: int = 7077
    web_port: int = 0
    workers: int = 2
    cores: int = 1
    memory: str = "2g"


def daemon_settings(secret: str) -> dict[str, str]:
    """Return the properties of the master and the workers."""
    return {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secret,
        "spark.network.crypto.enabled": "true",
        "spark.network.crypto.cipher": "AES/GCM/NoPadding",
        # It takes jobs without the secret.
        "spark.master.rest.enabled": "false",
        "spark.ui.killEnabled": "false",
    }


def run_settings(layout: Layout) -> dict[str, str]:
    """Return the settings of a run: those of `standalone`, of a size that the workers have."""
    return spark_conf(load_cluster("standalone")) | {
        "spark.executor.cores": str(layout.cores),
        "spark.executor.memory": layout.memory,
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
    }


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def properties(settings: Mapping[str, str]) -> str:
    """Return settings as a file of properties."""
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def write_files_of_runs(layout: Layout, master: str, secret: str) -> None:
    """Write what runs on the cluster read: its address, their settings and the secret."""
    settings = run_settings(layout)
    secret_file = layout.home / "secret"
    write_private(secret_file, secret + "\n")
    spec = {"master": master, "secret_file": str(secret_file), "conf": settings}
    write_private(layout.home / "cluster.yaml", yaml.safe_dump(spec, sort_keys=False))
    of_submit = {"spark.master": master, **settings, "spark.authenticate.secret": secret}
    # By default spark-submit prints hundreds of lines of its own between those of the run.
    of_submit["spark.log.level"] = "WARN"
    write_private(layout.home / "spark-submit.conf", properties(of_submit))


def start(home: Path, name: str, entry: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own, with its output in a log."""
    program = Path(pyspark.__file__).parent / "bin" / "spark-class"
    daemon = [str(program), f"org.apache.spark.deploy.{entry}", "--host", HOST]
    others = {n: v for n, v in os.environ.items() if not n.startswith(("SPARK_", "PYSPARK_"))}
    with (home / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [*daemon, "--properties-file", str(home / "daemons.conf"), *arguments],
            # Web pages are bound to this address too.
            env=others | {"SPARK_LOCAL_IP": HOST, "SPARK_PUBLIC_DNS": HOST},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(
    home: Path, name: str, processes: Mapping[str, subprocess.Popen[bytes]], words: str
) -> str:
    """Wait until a daemon logs some words; return their first group.

    Raises:
        SystemExit: one of the daemons ended, or this one does not log them in time.
    """
    log = home / f"{name}.log"
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        ended = [each for each, process in processes.items() if process.poll() is not None]
        match = re.search(words, log.read_text(errors="replace"))
        if match:
            return match[1]
        if ended:
            raise SystemExit(_why_ended(home, ended[0]))
        time.sleep(0.1)
    raise SystemExit(f"The {name} does not start within {READY_S:.0f} s: see {log}")


def _why_ended(home: Path, name: str) -> str:
    log = home / f"{name}.log"
    text = log.read_text(errors="replace")
    reason = re.findall(r"^(?:Exception.*|Caused by.*|.*BindException.*)$", text, re.M)
    return f"The {name} ended: {(reason or ['no reason given'])[0]}: see {log}"


@contextmanager
def running_cluster(layout: Layout) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run a cluster as a context manager; give its processes by name, the master first.

    Raises:
        SystemExit: a process does not start, or another cluster runs in the folder.
    """
    layout = layout._replace(home=layout.home.absolute())
    layout.home.mkdir(parents=True, exist_ok=True)
    layout.home.chmod(0o700)
    with alone_in(layout.home):
        yield from _running(layout)


def _running(layout: Layout) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    secret = secrets.token_urlsafe(32)
    write_private(layout.home / "daemons.conf", properties(daemon_settings(secret)))
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        ports = ("--port", str(layout.port), "--webui-port", str(layout.web_port))
        processes["master"] = start(layout.home, "master", "master.Master", *ports)
        master = wait_for(layout.home, "master", processes, MASTER_READY)
        _start_workers(layout, master, processes)
        write_files_of_runs(layout, master, secret)
        yield processes
    finally:
        stop_sessions(processes.values())
        for name in ("daemons.conf", "spark-submit.conf", "cluster.yaml", "secret"):
            (layout.home / name).unlink(missing_ok=True)


def _start_workers(
    layout: Layout, master: str, processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    names = [f"worker-{number}" for number in range(layout.workers)]
    size = ("--cores", str(layout.cores), "--memory", layout.memory, "--webui-port", "0")
    for name in names:
        folder = layout.home / name
        # Work folders of earlier runs, which nothing reads.
        shutil.rmtree(folder, ignore_errors=True)
        arguments = (*size, "--work-dir", str(folder), master)
        processes[name] = start(layout.home, name, "worker.Worker", *arguments)
    for name in names:
        wait_for(layout.home, name, processes, WORKER_READY)


def _layout() -> Layout:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--home", type=Path, default=ROOT / "data" / "cluster", help="folder of logs and secret")
    add("--port", type=int, default=7077, help="of the master, on loopback; 0 takes a free one")
    add("--web-port", type=int, default=0, help="of its web page; 0, the default, a free one")
    add("--workers", type=int, default=2, help="number of workers")
    cores = max(1, (os.cpu_count() or 2) // 2)
    add("--cores", type=int, default=cores, help="of each worker; default: half of the machine's")
    add("--memory", default="2g", help="of each worker, and of each executor")
    return Layout(**vars(parser.parse_args()))


def main() -> None:
    """Run the cluster until Ctrl-C, or until a process ends."""
    layout = _layout()
    if layout.workers < 1 or layout.cores < 1:
        raise SystemExit("--workers and --cores are at least 1.")
    ensure_java()
    end_on_signals()
    try:
        with running_cluster(layout) as processes:
            home = layout.home.absolute()
            size = f"{layout.cores} core{'s' if layout.cores > 1 else ''}, {layout.memory}"
            print(f"{layout.workers} workers are ready, each with {size}. Logs: {home}")
            print(f"curation run RECIPE --store DIR --cluster {home / 'cluster.yaml'}")
            submit = f"spark-submit --properties-file {home / 'spark-submit.conf'}"
            print(f"{submit} {ROOT / 'jobs' / 'run.py'} --recipe RECIPE --store DIR")
            print("Ctrl-C ends the cluster.", flush=True)
            while all(process.poll() is None for process in processes.values()):
                time.sleep(0.5)
            ended = [name for name, process in processes.items() if process.poll() is not None]
            raise SystemExit(f"{', '.join(ended)} ended: see the logs in {home}")
    except KeyboardInterrupt:
        print("Ended.", flush=True)


if __name__ == "__main__":
    main()
