"""Fetching beside plain img2dataset, from one server on loopback, in one run.

    python -m benchmarks.fetch small large         # pictures of about 10 and 150 kB
    python -m benchmarks.fetch lame                # a fifth of the hosts completes no response
    python -m benchmarks.fetch killed              # 50,000 rows, killed five times

One server listens on 400 addresses (127.0.x.y), so our limits per host take effect. Both sides get
the same list and time limit, and store pictures of 512 pixels on the longer side, JPEG 95. Ours
respects robots.txt and opt-out headers, checks addresses, and limits requests per host (4 at once,
10 per second). img2dataset does none of this; it runs two processes, with several numbers of
threads. Seconds of ours are those of the stage fetch in a warm Spark with two tasks at once. The
whole command is a run of its own, `curation run --until fetch`, and so are its CPU and memory
(PSS), which are sampled over all processes of a side, Spark's included. Where the machine is busy,
compare CPU. `killed` measures ours alone: one run is killed at random times and started again,
another is not killed, and the server counts requests.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions
from benchmarks.picture_server import HOSTS, picture, request_log, running_server

THREADS = {"small": (16, 64, 256), "large": (16, 64, 256), "lame": (64, 256)}
UrlList = tuple[int, int, float, int]
"""Rows, width of the pictures in pixels, share of lame hosts, time limit in seconds."""
URL_LISTS: dict[str, UrlList] = {
    "small": (20_000, 160, 0.0, 10),
    "large": (3_000, 1000, 0.0, 10),
    "lame": (8_000, 160, 0.2, 5),
}
TINY_URL_LISTS: dict[str, UrlList] = {"small": (200, 160, 0.0, 10), "lame": (200, 160, 0.2, 1)}


@dataclass(frozen=True)
class Kills:
    """A run that is killed: rows, number of kills, and bounds of the seconds before each kill."""

    rows: int = 50_000
    count: int = 5
    min_s: float = 12
    max_s: float = 25


TINY_KILLS = Kills(rows=500, count=1, min_s=6, max_s=12)


# -- both sides -----------------------------------------------------------------------------------


def recipe_of(folder: Path, timeout_s: int) -> dict[str, Any]:
    """Return the recipe that fetches the list of a folder."""
    path, columns = str(folder / "list.parquet"), {"url": "url", "caption": "caption"}
    source = {"name": "web", "role": "pool", "format": "parquet", "path": path, "columns": columns}
    limits = {"timeout_s": timeout_s, "retries": 0, "allow_hosts": ["127.0.0.0/8"]}
    params = {"contact": "benchmark@curation.example", **limits}
    return {"name": "fetch", "sources": [source], "fetch": params}


def fetched_pictures(store: Path) -> int:
    """Return the number of pictures that a store has."""
    from curation.engine.table import open_table
    from curation.store.store import Store

    statuses = open_table(Store(store), "images").read(["status"])["status"]
    return int(statuses.to_pylist().count("ok"))


def ours(folder: Path, timeout_s: int) -> tuple[float, int]:
    """Run ingest and fetch; return the seconds of fetch and the number of fetched pictures."""
    import logging

    from curation.engine.cluster import load_cluster
    from curation.engine.spark import open_context
    from curation.engine.spark_workers import SparkWorkers
    from curation.engine.table import open_table
    from curation.flow import plan
    from curation.recipe import parse_recipe
    from curation.runner.step import run_step
    from curation.store.store import Store

    logging.disable(logging.INFO)
    recipe = parse_recipe(recipe_of(folder, timeout_s))
    context = open_context("benchmark", load_cluster("local"))
    store, parallel = Store(folder / "ours"), SparkWorkers(lambda: context)
    ingest, fetch = plan(recipe, until="fetch")
    run_step(ingest, store, parallel)
    parallel.map("warm", _import_libraries, [0, 1])
    started = time.perf_counter()
    run_step(fetch, store, parallel)
    seconds = time.perf_counter() - started
    images = open_table(store, "images")
    print(json.dumps(images.manifest.counts, default=str), file=sys.stderr)
    context.stop()
    return seconds, fetched_pictures(folder / "ours")


def _import_libraries(_: int) -> None:
    from curation.stages.fetch.shard_writer import parquet_writer

    parquet_writer()


def theirs(folder: Path, timeout_s: int, threads: int) -> tuple[float, int]:
    """Run img2dataset; return its seconds and the number of fetched pictures."""
    from img2dataset import download

    out = folder / f"theirs-{threads}"
    started = time.perf_counter()
    download(
        url_list=str(folder / "list.parquet"),
        image_size=512,
        output_folder=str(out),
        processes_count=2,
        thread_count=threads,
        resize_mode="keep_ratio_largest",
        resize_only_if_bigger=True,
        skip_reencode=True,
        encode_quality=95,
        output_format="parquet",
        input_format="parquet",
        url_col="url",
        caption_col="caption",
        number_sample_per_shard=1_000,
        extract_exif=False,
        timeout=timeout_s,
        retries=0,
    )
    seconds = time.perf_counter() - started
    shards = [json.loads(path.read_text()) for path in out.glob("*_stats.json")]
    return seconds, sum(shard["successes"] for shard in shards)


class Measurements(NamedTuple):
    """Seconds of fetching and of the whole command, pictures, CPU seconds, and peak memory in GiB."""

    seconds: float
    command_s: float
    pictures: int
    cpu_s: float
    peak_gib: float


class ResourceMonitor:
    """Samples the CPU seconds and the peak memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._ended = threading.Event()
        self._cpu: dict[int, float] = {}
        self.peak_gib = 0.0
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._ended.wait(0.5):
            total = 0
            try:
                processes = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            for process in processes:
                try:
                    times = process.cpu_times()
                    self._cpu[process.pid] = times.user + times.system
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_gib = max(self.peak_gib, total / 2**30)

    def stop(self) -> float:
        """Stop sampling; return the CPU seconds."""
        self._ended.set()
        self._thread.join()
        return sum(self._cpu.values())


def measure(side: str, folder: Path, timeout_s: int, threads: int = 0) -> Measurements:
    """Run one side in a separate process; return its measurements."""
    command = [sys.executable, "-m", "benchmarks.fetch", side, "--folder", str(folder)]
    command += ["--timeout", str(timeout_s), "--threads", str(threads)]
    out, command_s, cpu_s, peak_gib = monitored(command)
    seconds, pictures = json.loads(out.strip().splitlines()[-1])
    return Measurements(seconds, command_s, pictures, cpu_s, peak_gib)


def measure_ours(folder: Path, timeout_s: int) -> Measurements:
    """Run ours twice: the stage in a warm Spark, and the whole command."""
    warm = measure("ours", folder, timeout_s)
    recipe, store = folder / "recipe.yaml", folder / "command"
    # Every JSON is YAML.
    recipe.write_text(json.dumps(recipe_of(folder, timeout_s)))
    command = [sys.executable, "-m", "curation.cli", "run", str(recipe), "--until", "fetch"]
    _, command_s, cpu_s, peak_gib = monitored([*command, "--store", str(store)])
    if fetched_pictures(store) != warm.pictures:
        raise SystemExit("the command fetched other pictures")
    return Measurements(warm.seconds, command_s, warm.pictures, cpu_s, peak_gib)


def monitored(command: list[str]) -> tuple[str, float, float, float]:
    """Run a command; return its output, its seconds, its CPU seconds and its peak memory in GiB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    monitor = ResourceMonitor(process.pid)
    out, _ = process.communicate()
    command_s = time.perf_counter() - started
    cpu_s = monitor.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return out, command_s, cpu_s, monitor.peak_gib


def url_table(hosts: Iterable[str], port: int) -> pa.Table:
    """Return URLs and captions, one for each host."""
    urls = [f"http://{host}:{port}/{n}.jpg" for n, host in enumerate(hosts)]
    return pa.table({"url": urls, "caption": [f"picture {n}" for n in range(len(urls))]})


def compare(name: str, url_list: UrlList, thread_counts: tuple[int, ...]) -> None:
    """Print a row for each side."""
    rows, width, lame_share, timeout_s = url_list
    lame = HOSTS[: int(lame_share * len(HOSTS))]
    hosts = np.random.default_rng(0).permutation(np.resize(HOSTS, rows))
    with running_server(width, lame) as port, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pq.write_table(url_table(hosts, port), folder / "list.parquet", row_group_size=1_000)
        our_result = measure_ours(folder, timeout_s)
        peers = {n: measure("theirs", folder, timeout_s, n) for n in thread_counts}
    size = len(picture(0, width)) / 1000
    print(f"\n{name}: {rows:,} rows, {len(HOSTS)} hosts, {size:.0f} kB, time limit {timeout_s} s\n")
    print(
        "| | s | whole command, s | pictures | images/s | CPU ms an image | peak, GiB "
        "| times as fast | as whole commands |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    _print_row("curation", our_result, None)
    for threads, result in peers.items():
        _print_row(f"img2dataset, {threads} threads", result, our_result)
    sys.stdout.flush()


def compare_killed(kills: Kills) -> None:
    """Print the repeated requests of a killed run, and whether its table is that of an unkilled one."""
    rng = np.random.default_rng(int(time.time()))
    with running_server(64, []) as port, tempfile.TemporaryDirectory() as temporary:
        unkilled, killed = Path(temporary) / "unkilled", Path(temporary) / "killed"
        table = url_table(np.resize(HOSTS, kills.rows), port)
        for folder in (unkilled, killed):
            folder.mkdir()
            pq.write_table(table, folder / "list.parquet")
        command = [sys.executable, "-m", "benchmarks.fetch", "ours", "--folder"]
        subprocess.run([*command, str(unkilled)], check=True, stdout=subprocess.DEVNULL)
        request_log(port)
        waits: list[float] = []
        while len(waits) < kills.count:
            process = subprocess.Popen(
                [*command, str(killed)], stdout=subprocess.DEVNULL, start_new_session=True
            )
            waits.append(float(rng.uniform(kills.min_s, kills.max_s)))
            try:
                process.wait(waits[-1])
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        subprocess.run([*command, str(killed)], check=True, stdout=subprocess.DEVNULL)
        log = request_log(port)
        same = _rows(unkilled) == _rows(killed)
    seconds = ", ".join(f"{wait:.0f}" for wait in waits)
    print(f"\n{kills.rows:,} rows, killed {len(waits)} times, {seconds} s after each start:")
    print(
        f"{log['pictures']:,} pictures requested, {log['repeated']:,} requests repeated;", end=" "
    )
    print("the same table as that of the unkilled run" if same else "ANOTHER TABLE")


def _rows(folder: Path) -> list[tuple[Any, ...]]:
    from curation.engine.table import open_table
    from curation.store.store import Store

    rows = []
    for fragment in open_table(Store(folder / "ours"), "images").fragments.values():
        for batch in fragment.batches():
            for row in batch.to_pylist():
                row["image"] = hashlib.sha256(row["image"] or b"").hexdigest()
                row.pop("metadata")
                rows.append(tuple(row.values()))
    return sorted(rows, key=str)


def _print_row(name: str, result: Measurements, ours: Measurements | None) -> None:
    seconds, command_s, pictures, cpu_s, peak_gib = result
    rate, ratio, command_ratio = pictures / seconds, "", ""
    if ours:
        ratio = f"{ours.pictures / ours.seconds / rate:.2f}"
        command_ratio = f"{command_s / pictures / (ours.command_s / ours.pictures):.2f}"
    print(
        f"| {name} | {seconds:.1f} | {command_s:.1f} | {pictures:,.0f} | {rate:,.0f} "
        f"| {1000 * cpu_s / pictures:.1f} | {peak_gib:.2f} | {ratio} | {command_ratio} |"
    )


def main() -> None:
    """Run the named lists."""
    parser = parser_of(__doc__)
    names = ", ".join([*URL_LISTS, "killed"])
    parser.add_argument("what", nargs="*", metavar="what", help=f"of {names}; default: all")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--timeout", type=int, default=10)
    parser.add_argument("--threads", type=int, default=64)
    options = parse(parser)
    sides: dict[str, Callable[[], tuple[float, int]]] = {
        "ours": lambda: ours(options.folder, options.timeout),
        "theirs": lambda: theirs(options.folder, options.timeout, options.threads),
    }
    lists, kills = (TINY_URL_LISTS, TINY_KILLS) if options.tiny else (URL_LISTS, Kills())
    if unknown := {*options.what} - {*lists, *sides, "killed"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; valid are {', '.join(lists)}, killed")
    if options.what and options.what[0] in sides:
        print(json.dumps(sides[options.what[0]]()))
        return
    print(f"{conditions()}, {os.cpu_count()} processors")
    default = ("small", "killed") if options.tiny else (*lists, "killed")
    for name in options.what or default:
        if name == "killed":
            compare_killed(kills)
        else:
            compare(name, lists[name], THREADS[name][: 1 if options.tiny else None])


if __name__ == "__main__":
    main()
