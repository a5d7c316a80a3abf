"""A long fetch from hostile hosts on loopback: it ends, and good hosts hardly notice.

    python -m benchmarks.soak                       # 200,000 rows, 30 % of the hosts bad
    python -m benchmarks.soak --latency 0.25        # good hosts answer as those of the web do
    python -m benchmarks.soak --rows 20000
    python -m benchmarks.soak --tiny

Two processes fetch one half of the hosts each, first from the good hosts alone, and then from all.
Bad hosts are of all kinds of `benchmarks/hostile_server.py`, in equal parts. The table shows for each
run the seconds, the rows, the good pictures per second from the first to the last that a good host
sent, the peak memory (RSS) of each task and of its largest decoder, and the growth of each task: the
mean of the last quarter of the samples over that of the second quarter.

The run fails if a row has no status, if a good row failed, if a process takes more than 1.5 GiB, if a
task grows by more than 0.2 GiB, or if good hosts keep less than 0.8 of their speed with a latency of
half a second or more. A tiny run is too short for the last two.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import parse, parser_of
from benchmarks.hostile_server import BAD_NAMES, host_of_kind, resolve_strangers, serve
from benchmarks.machine import conditions

TASKS = 2
ROWS_PER_HOST = 50
BAD_SHARE = 0.3
TIMEOUT_S = 2.0
SAMPLE_S = 0.25
SHOWN = 12
MOST_GIB = 1.5
MOST_GROWTH_GIB = 0.2
LEAST_SPEED = 0.8
LEAST_LATENCY_S = 0.5
"""Latency from which waiting bounds the fetch, and not the processors, which the server shares."""


class Run(NamedTuple):
    """What was measured of one run.

    Attributes:
        seconds: of the slower task, with its start.
        per_second: good pictures per second.
        outcomes: rows by `ok` or reason.
        good_failures: rows of good hosts that failed, by reason.
        peaks: largest RSS of each task in GiB.
        decoders: largest RSS of a process that a task started, in GiB.
        growths: growth of each task in GiB.
    """

    seconds: float
    per_second: float
    outcomes: Counter[str]
    good_failures: Counter[str]
    peaks: list[float]
    decoders: list[float]
    growths: list[float]


def urls_of(rows: int, bad: bool, port: int) -> list[list[str]]:
    """Return the URLs of each task; those of good hosts are the same with bad hosts and without."""
    hosts = max(rows // ROWS_PER_HOST, 2 * len(BAD_NAMES))
    bad_hosts = int(hosts * BAD_SHARE)
    names = [host_of_kind("good", n) for n in range(hosts - bad_hosts)]
    if bad:
        kinds = len(BAD_NAMES)
        names += [host_of_kind(BAD_NAMES[n % kinds], n // kinds) for n in range(bad_hosts)]
    per_host = max(1, rows // hosts)
    return [
        [
            f"http://{name}:{port}/{'a' * (n % 100)}/{n}.jpg"
            for n in range(per_host)
            for name in part
        ]
        for part in (names[task::TASKS] for task in range(TASKS))
    ]


def fetch(folder: Path) -> None:
    """Run ingest and fetch on the list of a folder, in this process."""
    from curation.engine.parallel import InProcess
    from curation.flow import plan
    from curation.recipe import parse_recipe
    from curation.runner.step import run_step
    from curation.store.store import Store

    logging.disable(logging.INFO)
    resolve_strangers()
    columns = {"url": "url", "caption": "caption"}
    path = str(folder / "list.parquet")
    source = {"name": "web", "role": "pool", "format": "parquet", "path": path, "columns": columns}
    limits = {"timeout_s": TIMEOUT_S, "patience_s": 5, "retries": 1, "max_bytes": 4 * 2**20}
    hosts = {"allow_hosts": ["127.0.0.0/8"], "contact": "soak@curation.example"}
    ours = {"per_host": {"concurrency": 4, "per_second": None}}
    recipe = parse_recipe(
        {
            "name": "soak",
            "sources": [source],
            "fetch": limits | hosts | ours,
        }
    )
    workers = InProcess()
    # As one slot of Spark.
    workers.slots = 1
    for step in plan(recipe, until="fetch"):
        run_step(step, Store(folder / "store"), workers)


def measure(lists: list[list[str]], port: int) -> Run:
    """Run the tasks, each in a process of its own; return what was measured."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / str(task) for task in range(TASKS)]
        for folder, urls in zip(folders, lists, strict=True):
            folder.mkdir()
            captions = [f"picture {n}" for n in range(len(urls))]
            pq.write_table(pa.table({"url": urls, "caption": captions}), folder / "list.parquet")
        read_log(port)
        started = time.perf_counter()
        samples = sample_memory([start(folder) for folder in folders])
        seconds = time.perf_counter() - started
        count, good_s = read_log(port)
        outcomes, good_failures = outcomes_of(folders, sum(map(len, lists)))
    return Run(
        seconds,
        count / max(good_s, 1e-9),
        outcomes,
        good_failures,
        [max(sample.task for sample in each) for each in samples],
        [max(sample.decoder for sample in each) for each in samples],
        [growth([sample.task for sample in each]) for each in samples],
    )


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a task."""
    command = [sys.executable, "-P", "-m", "benchmarks.soak", "--task", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


class Sample(NamedTuple):
    """Memory at one time.

    Attributes:
        task: RSS of a task in GiB.
        decoder: of the largest process that it started.
    """

    task: float = 0.0
    decoder: float = 0.0


def sample_memory(processes: list[subprocess.Popen[bytes]]) -> list[list[Sample]]:
    """Return the memory of each task over time, until all have ended."""
    samples = [[Sample()] for _ in processes]
    while any(process.poll() is None for process in processes):
        for process, taken in zip(processes, samples, strict=True):
            with suppress(psutil.Error):
                task = psutil.Process(process.pid)
                children = map(rss_of, task.children(recursive=True))
                taken.append(Sample(rss_of(task), max(children, default=0.0)))
        time.sleep(SAMPLE_S)
    if any(process.returncode for process in processes):
        raise SystemExit("a task failed")
    return samples


def rss_of(process: psutil.Process) -> float:
    """Return the RSS of a process in GiB; 0 if it has ended."""
    try:
        return float(process.memory_info().rss) / 2**30
    except psutil.Error:
        return 0.0


def growth(rss: list[float]) -> float:
    """Return the mean of the last quarter of some samples over that of the second quarter."""
    size = max(1, len(rss) // 4)
    second, last = rss[size : 2 * size] or rss, rss[-size:]
    return sum(last) / len(last) - sum(second) / len(second)


def outcomes_of(folders: list[Path], rows: int) -> tuple[Counter[str], Counter[str]]:
    """Return the rows by outcome, and those of good hosts that failed, by reason."""
    from curation.engine.table import open_table
    from curation.store.store import Store

    outcomes: Counter[str] = Counter()
    good_failures: Counter[str] = Counter()
    for folder in folders:
        table = open_table(Store(folder / "store"), "images").read(["url", "status", "reason"])
        for row in table.to_pylist():
            outcome = "ok" if row["status"] == "ok" else row["reason"] or "no reason"
            outcomes[outcome] += 1
            if "//127.1." in row["url"] and outcome != "ok":
                good_failures[outcome] += 1
    if outcomes.total() != rows or outcomes["no reason"]:
        raise SystemExit(f"{rows - outcomes.total()} rows have no status: {outcomes}")
    return outcomes, good_failures


def read_log(port: int) -> tuple[int, float]:
    """Return the number of good pictures since the last call, and the seconds that they took."""
    with urllib.request.urlopen(f"http://127.1.0.1:{port}/log") as response:
        count, seconds = json.load(response)
    return count, seconds


@contextmanager
def running_server(latency_s: float = 0.0) -> Iterator[int]:
    """Run the server in a process of its own; yield its port."""
    port, ready = multiprocessing.Value("i", 0), multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(port, ready, latency_s), daemon=True)
    server.start()
    ready.wait(60)
    yield port.value
    server.terminate()


def show(runs: dict[str, Run]) -> None:
    """Print both runs, and the ratio of their speeds."""
    print("| | s | rows | ok | good images/s | peak of each task | of a decoder | growth, GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, run in runs.items():
        peaks = ", ".join(f"{peak:.2f}" for peak in run.peaks)
        decoders = ", ".join(f"{peak:.2f}" for peak in run.decoders)
        growths = ", ".join(f"{value:+.2f}" for value in run.growths)
        rows, ok = run.outcomes.total(), run.outcomes["ok"]
        print(
            f"| {name} | {run.seconds:.0f} | {rows:,} | {ok:,} | {run.per_second:.0f} "
            f"| {peaks} | {decoders} | {growths} |"
        )
    alone, mixed = runs.values()
    print(f"\nspeed of good hosts beside bad ones: {speed_kept(alone, mixed):.2f}")
    common = ", ".join(f"{name} {count:,}" for name, count in mixed.outcomes.most_common(SHOWN))
    print(f"outcomes: {common}")


def speed_kept(alone: Run, mixed: Run) -> float:
    """Return the speed of good hosts beside bad ones, as a share of their speed alone."""
    return mixed.per_second / max(alone.per_second, 1e-9)


def failures_of(runs: dict[str, Run], is_waiting: bool, is_tiny: bool) -> Iterator[str]:
    """Yield which limits the runs exceed.

    Args:
        runs: without bad hosts, and with them.
        is_waiting: whether waiting bounds the fetch.
        is_tiny: whether it is too short to measure growth and speed.
    """
    for name, run in runs.items():
        if run.good_failures:
            yield f"{name}: rows of good hosts failed: {dict(run.good_failures)}"
        if max(run.peaks + run.decoders) > MOST_GIB:
            yield f"{name}: a process took more than {MOST_GIB} GiB"
        if max(run.growths) > MOST_GROWTH_GIB and not is_tiny:
            yield f"{name}: a task grew by more than {MOST_GROWTH_GIB} GiB"
    if is_waiting and not is_tiny and speed_kept(*runs.values()) < LEAST_SPEED:
        yield f"good hosts kept less than {LEAST_SPEED} of their speed"


def main() -> None:
    """Run without bad hosts, and with them."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds; of good hosts")
    parser.add_argument("--task", type=Path, help=argparse.SUPPRESS)
    options = parse(parser, {"rows": 400})
    if options.task:
        fetch(options.task)
        return
    limits = f"time limit {TIMEOUT_S} s, latency of good hosts {options.latency} s"
    print(f"{conditions()}\n\n{options.rows:,} rows, {limits}\n")
    runs: dict[str, Run] = {}
    with running_server(options.latency) as port:
        for name, bad in (("good hosts alone", False), ("30 % of the hosts bad", True)):
            runs[name] = measure(urls_of(options.rows, bad, port), port)
    show(runs)
    failures = list(failures_of(runs, options.latency >= LEAST_LATENCY_S, options.tiny))
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
