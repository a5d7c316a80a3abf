"""Fetching beside plain img2dataset, from one server on loopback, in one run.

    python -m benchmarks.fetch small large         # pictures of about 10 and 150 kB
    python -m benchmarks.fetch lame                # a fifth of the hosts is silent or drips
    python -m benchmarks.fetch killed              # 50,000 rows, killed five times

The list has many hosts (127.0.x.y, one server on all of them), so that our bounds per host are real.
Both sides get the same list, the same time limit and the same stored form (512 pixels on the longer
side, JPEG 95). Ours is the stage fetch in a warm Spark session with two tasks at once, with robots.txt,
opt-out headers, address checks and bounds per host (4 at once, 10 a second); img2dataset runs its two
processes without any of these, with the best of several numbers of threads. CPU and memory (PSS) are
those of all processes of a side, sampled; Spark's own are counted, and so is its start in the time of
the whole command, but not in that of fetch. `killed` is ours alone: a run killed
at random moments and taken up again, beside one left alone; the server counts what it is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.command import parse, parser_of
from benchmarks.machine import conditions

HOSTS = [f"127.0.{n // 200}.{n % 200 + 1}" for n in range(400)]
THREADS = {"small": (16, 64, 256), "large": (16, 64, 256), "lame": (64, 256)}
Webs = dict[str, tuple[int, int, float, int]]
"""By name: rows, side in pixels, share of hosts that answer nothing or drip, seconds allowed."""
LISTS: Webs = {
    "small": (20_000, 160, 0.0, 10),
    "large": (3_000, 1000, 0.0, 10),
    "lame": (8_000, 160, 0.2, 5),
}
TINY_LISTS: Webs = {"small": (200, 160, 0.0, 10), "lame": (200, 160, 0.2, 1)}
PICTURES = 64
DRIPS = 30
"""Bytes, a second each, after which a dripping host gives up; without an end img2dataset has none."""


@dataclass(frozen=True)
class Kills:
    """A run that is killed: its rows, how often, and bounds of the seconds until each kill."""

    rows: int = 50_000
    times: int = 5
    least_s: float = 12
    most_s: float = 25


TINY_KILLS = Kills(rows=500, times=1, least_s=6, most_s=12)


# -- the web --------------------------------------------------------------------------------------


def picture(number: int, side: int) -> bytes:
    """Return a JPEG that compresses about as photographs do."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (side // 8, side // 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
    noisy = np.asarray(image).astype(np.int16) + rng.normal(0, 6, (side * 3 // 4, side, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def serve(side: int, lame: list[str], port: Any, ready: Any) -> None:
    """Serve pictures on all hosts until killed; the lame ones never finish an answer."""
    pages = [picture(n, side) for n in range(PICTURES)]
    heads = [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(page)
        for page in pages
    ]
    asked: Counter[bytes] = Counter()
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    slow = set(lame)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
                if request == b"/log":
                    again = sum(n - 1 for path, n in asked.items() if path != b"/robots.txt")
                    body = json.dumps({"again": again, "pictures": len(asked) - 1}).encode()
                    asked.clear()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                    writer.write(body)
                    continue
                asked[request] += 1
                if host in slow:
                    await drip(host, writer)
                elif request == b"/robots.txt":
                    writer.write(missing)
                else:
                    number = int(request.rsplit(b"/", 1)[1].split(b".")[0]) % PICTURES
                    writer.write(heads[number])
                    writer.write(pages[number])
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def drip(host: str, writer: asyncio.StreamWriter) -> None:
        if int(host.rsplit(".", 1)[1]) % 2:
            await asyncio.sleep(3600)
        writer.write(heads[0])
        for _ in range(DRIPS):
            writer.write(b"\xff")
            await writer.drain()
            await asyncio.sleep(1)
        writer.close()

    async def main() -> None:
        first = await asyncio.start_server(answer, HOSTS[0], 0, backlog=1024)
        own = first.sockets[0].getsockname()[1]
        for host in HOSTS[1:]:
            await asyncio.start_server(answer, host, own, backlog=1024)
        port.value = own
        ready.set()
        await asyncio.sleep(10**6)

    asyncio.run(main())


# -- both sides -----------------------------------------------------------------------------------


def ours(folder: Path, timeout_s: int) -> tuple[float, int]:
    """Run ingest and fetch; return the seconds of fetch and the pictures that came."""
    import logging

    from curation.engine.spark import load_cluster, open_session
    from curation.engine.spark_workers import SparkWorkers
    from curation.engine.store import Store
    from curation.engine.table import open_table
    from curation.flow import plan
    from curation.recipe import parse_recipe
    from curation.runner import run_step

    logging.disable(logging.INFO)
    recipe = parse_recipe(
        {
            "name": "fetch",
            "sources": [
                {
                    "name": "web",
                    "role": "pool",
                    "format": "parquet",
                    "path": str(folder / "list.parquet"),
                    "columns": {"url": "url", "caption": "caption"},
                }
            ],
            "fetch": {
                "timeout_s": timeout_s,
                "retries": 0,
                "allow_hosts": ["127.0.0.0/8"],
                "contact": "benchmark@curation.example",
            },
        }
    )
    session = open_session("benchmark", load_cluster("local"))
    store, parallel = Store(folder / "ours"), SparkWorkers(lambda: session)
    ingest, fetch = plan(recipe, until="fetch")
    run_step(ingest, store, parallel)
    parallel.map("warm", _import_all, [0, 1])
    begun = time.perf_counter()
    run_step(fetch, store, parallel)
    seconds = time.perf_counter() - begun
    counts = open_table(store, "images").manifest.counts
    print(json.dumps(counts, default=str), file=sys.stderr)
    statuses = open_table(store, "images").read(["status"])["status"].to_pylist()
    came = statuses.count("ok")
    session.stop()
    return seconds, came


def _import_all(_: int) -> None:
    import img2dataset.resizer
    import img2dataset.writer  # noqa: F401


def theirs(folder: Path, timeout_s: int, threads: int) -> tuple[float, int]:
    """Run img2dataset; return its seconds and the pictures that came."""
    from img2dataset import download

    out = folder / f"theirs-{threads}"
    begun = time.perf_counter()
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
    seconds = time.perf_counter() - begun
    stats = [json.loads(path.read_text()) for path in out.glob("*_stats.json")]
    return seconds, sum(own["successes"] for own in stats)


class Watch:
    """CPU seconds and the largest memory of a process and all below it, sampled."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._over = threading.Event()
        self._cpu: dict[int, float] = {}
        self.gib = 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.5):
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
            self.gib = max(self.gib, total / 2**30)

    def stop(self) -> float:
        """Return the CPU seconds."""
        self._over.set()
        self._thread.join()
        return sum(self._cpu.values())


def apart(side: str, folder: Path, timeout_s: int, threads: int = 0) -> dict[str, float]:
    """Run one side in a process of its own; return what it took."""
    command = [sys.executable, "-m", "benchmarks.fetch", side, "--folder", str(folder)]
    command += ["--timeout", str(timeout_s), "--threads", str(threads)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    watch = Watch(process.pid)
    out, _ = process.communicate()
    cpu = watch.stop()
    if process.returncode:
        raise SystemExit(f"{side} failed")
    seconds, came = json.loads(out.strip().splitlines()[-1])
    whole = time.perf_counter() - begun
    return {"s": seconds, "came": came, "cpu": cpu, "gib": watch.gib, "whole": whole}


def compare(name: str, web: tuple[int, int, float, int], thread_counts: tuple[int, ...]) -> None:
    """Print one row a side."""
    rows, side, share, timeout_s = web
    rng = np.random.default_rng(0)
    lame = HOSTS[: int(share * len(HOSTS))]
    port, ready = multiprocessing.Value("i", 0), multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(side, lame, port, ready), daemon=True)
    server.start()
    ready.wait(60)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hosts = rng.permutation(np.resize(HOSTS, rows))
        urls = [f"http://{host}:{port.value}/{n}.jpg" for n, host in enumerate(hosts)]
        table = pa.table({"url": urls, "caption": [f"picture {n}" for n in range(rows)]})
        pq.write_table(table, folder / "list.parquet", row_group_size=1_000)
        mine = apart("ours", folder, timeout_s)
        others = {n: apart("theirs", folder, timeout_s, n) for n in thread_counts}
    server.terminate()
    size = len(picture(0, side)) / 1000
    print(f"\n{name}: {rows:,} rows, {len(HOSTS)} hosts, {size:.0f} kB, {timeout_s} s allowed\n")
    print(
        "| | s | whole command, s | pictures | images/s | CPU ms an image | peak, GiB "
        "| times as fast | as whole commands |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    _row("curation", mine, None)
    for threads, other in others.items():
        _row(f"img2dataset, {threads} threads", other, mine)
    sys.stdout.flush()


def killed(kills: Kills) -> None:
    """Print what a killed run asked for twice, and whether it ends as one left alone."""
    port, ready = multiprocessing.Value("i", 0), multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(64, [], port, ready), daemon=True)
    server.start()
    ready.wait(60)
    rng = np.random.default_rng(int(time.time()))
    with tempfile.TemporaryDirectory() as temporary:
        alone, disturbed = Path(temporary) / "alone", Path(temporary) / "disturbed"
        hosts = np.resize(HOSTS, kills.rows)
        urls = [f"http://{host}:{port.value}/{n}.jpg" for n, host in enumerate(hosts)]
        table = pa.table({"url": urls, "caption": [f"picture {n}" for n in range(kills.rows)]})
        for folder in (alone, disturbed):
            folder.mkdir()
            pq.write_table(table, folder / "list.parquet")
        command = [sys.executable, "-m", "benchmarks.fetch", "ours", "--folder"]
        subprocess.run([*command, str(alone)], check=True, stdout=subprocess.DEVNULL)
        _log(port.value)
        waits: list[float] = []
        while len(waits) < kills.times:
            process = subprocess.Popen(
                [*command, str(disturbed)], stdout=subprocess.DEVNULL, start_new_session=True
            )
            waits.append(float(rng.uniform(kills.least_s, kills.most_s)))
            try:
                process.wait(waits[-1])
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        subprocess.run([*command, str(disturbed)], check=True, stdout=subprocess.DEVNULL)
        log = _log(port.value)
        same = _rows(alone) == _rows(disturbed)
    server.terminate()
    moments = ", ".join(f"{w:.0f}" for w in waits)
    print(f"\n{kills.rows:,} rows, killed {len(waits)} times, {moments} s after each start:")
    print(f"{log['pictures']:,} pictures asked for, {log['again']:,} requests made again; ", end="")
    print("the same table as of the run left alone" if same else "ANOTHER TABLE")


def _log(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://{HOSTS[0]}:{port}/log", timeout=10) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def _rows(folder: Path) -> list[tuple[Any, ...]]:
    from curation.engine.store import Store
    from curation.engine.table import open_table

    rows = []
    for fragment in open_table(Store(folder / "ours"), "images").fragments.values():
        for batch in fragment.batches():
            for row in batch.to_pylist():
                row["image"] = hashlib.sha256(row["image"] or b"").hexdigest()
                row.pop("metadata")
                rows.append(tuple(row.values()))
    return sorted(rows, key=str)


def _row(name: str, side: dict[str, float], mine: dict[str, float] | None) -> None:
    rate = side["came"] / side["s"]
    ratio = f"{mine['came'] / mine['s'] / rate:.2f}" if mine else ""
    slower = side["whole"] / side["came"]
    whole = f"{slower / (mine['whole'] / mine['came']):.2f}" if mine else ""
    print(
        f"| {name} | {side['s']:.1f} | {side['whole']:.1f} | {side['came']:,.0f} | {rate:,.0f} "
        f"| {1000 * side['cpu'] / side['came']:.1f} | {side['gib']:.2f} | {ratio} | {whole} |"
    )


def main() -> None:
    """Run the lists that are named."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        metavar="what",
        help=f"of {', '.join([*LISTS, 'killed'])}; default: all",
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--timeout", type=int, default=10)
    parser.add_argument("--threads", type=int, default=64)
    options = parse(parser)
    sides: dict[str, Callable[[], tuple[float, int]]] = {
        "ours": lambda: ours(options.folder, options.timeout),
        "theirs": lambda: theirs(options.folder, options.timeout, options.threads),
    }
    webs, kills = (TINY_LISTS, TINY_KILLS) if options.tiny else (LISTS, Kills())
    if unknown := {*options.what} - {*webs, *sides, "killed"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; valid are {', '.join(webs)}, killed")
    if options.what and options.what[0] in sides:
        print(json.dumps(sides[options.what[0]]()))
        return
    print(f"{conditions()}, {os.cpu_count()} processors")
    everything = ("small", "killed") if options.tiny else (*webs, "killed")
    for name in options.what or everything:
        if name == "killed":
            killed(kills)
        else:
            compare(name, webs[name], THREADS[name][: 1 if options.tiny else None])


if __name__ == "__main__":
    main()
