"""The stage fetch, compared with plain img2dataset on one server on loopback.

    pip install psutil                             # the project itself does not need it
    python -m benchmarks.fetch small large         # images of about 10 and 150 kB
    python -m benchmarks.fetch lame                # a fifth of the hosts sends no or slow responses
    python -m benchmarks.fetch killed              # 50,000 rows, killed five times

The list has many hosts (127.0.x.y, all of them one server), so that the limits per host apply. Both
sides get the same list, the same time limit and the same stored format (512 pixels on the longer side,
JPEG 95). Ours is the stage fetch in a warm Spark session with two concurrent tasks. It follows
robots.txt and opt-out headers, checks addresses, and limits requests per host (4 at once, 10 per
second). img2dataset does none of this; it runs two processes, with several numbers of threads. CPU and
memory (PSS) are sampled over all processes of a side, including Spark. The time of the whole command
includes the start of Spark; that of fetch does not.

`killed` runs only ours. It compares a run that is killed at random times and started again with a run
that is not disturbed; the server counts the requests.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.machine import conditions

HOSTS = [f"127.0.{n // 200}.{n % 200 + 1}" for n in range(400)]
THREADS = {"small": (16, 64, 256), "large": (16, 64, 256), "lame": (64, 256)}
LISTS = {
    # name: rows, side in pixels, share of lame hosts, time limit in seconds
    "small": (20_000, 160, 0.0, 10),
    "large": (3_000, 1000, 0.0, 10),
    "lame": (8_000, 160, 0.2, 5),
}
IMAGES = 64
DRIPPED_BYTES = 30
"""Bytes that a slow host sends, one per second; img2dataset would wait for an endless response."""
KILLS = 5
KILLED_ROWS = 50_000


# -- the web --------------------------------------------------------------------------------------


def encoded_image(number: int, side: int) -> bytes:
    """Return a JPEG that compresses about as much as a photograph."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (side // 8, side // 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
    noisy = np.asarray(image).astype(np.int16) + rng.normal(0, 6, (side * 3 // 4, side, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def serve(side: int, lame: list[str], port: Any, ready: Any) -> None:
    """Serve images on all hosts until killed; lame hosts never finish a response."""
    bodies = [encoded_image(n, side) for n in range(IMAGES)]
    headers = [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body)
        for body in bodies
    ]
    requests: Counter[bytes] = Counter()
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    lame_hosts = set(lame)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
                if path == b"/log":
                    repeated = sum(n - 1 for p, n in requests.items() if p != b"/robots.txt")
                    log = {"repeated": repeated, "images": len(requests) - 1}
                    body = json.dumps(log).encode()
                    requests.clear()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                    writer.write(body)
                    continue
                requests[path] += 1
                if host in lame_hosts:
                    await drip(host, writer)
                elif path == b"/robots.txt":
                    writer.write(missing)
                else:
                    number = int(path.rsplit(b"/", 1)[1].split(b".")[0]) % IMAGES
                    writer.write(headers[number])
                    writer.write(bodies[number])
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def drip(host: str, writer: asyncio.StreamWriter) -> None:
        if int(host.rsplit(".", 1)[1]) % 2:
            await asyncio.sleep(3600)
        writer.write(headers[0])
        for _ in range(DRIPPED_BYTES):
            writer.write(b"\xff")
            await writer.drain()
            await asyncio.sleep(1)
        writer.close()

    async def main() -> None:
        first = await asyncio.start_server(answer, HOSTS[0], 0, backlog=1024)
        number = first.sockets[0].getsockname()[1]
        for host in HOSTS[1:]:
            await asyncio.start_server(answer, host, number, backlog=1024)
        port.value = number
        ready.set()
        await asyncio.sleep(10**6)

    asyncio.run(main())


# -- both sides -----------------------------------------------------------------------------------


def ours(folder: Path, timeout_s: int) -> tuple[float, int]:
    """Run ingest and fetch; return the seconds of fetch and the number of images."""
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
    started = time.perf_counter()
    run_step(fetch, store, parallel)
    seconds = time.perf_counter() - started
    counts = open_table(store, "images").manifest.books
    print(json.dumps(counts, default=str), file=sys.stderr)
    statuses = open_table(store, "images").read(["status"])["status"].to_pylist()
    images = statuses.count("ok")
    session.stop()
    return seconds, images


def _import_all(_: int) -> None:
    import img2dataset.resizer
    import img2dataset.writer  # noqa: F401


def theirs(folder: Path, timeout_s: int, threads: int) -> tuple[float, int]:
    """Run img2dataset; return its seconds and the number of images."""
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
    stats = [json.loads(path.read_text()) for path in out.glob("*_stats.json")]
    return seconds, sum(shard["successes"] for shard in stats)


class ResourceMonitor:
    """Samples the CPU seconds and the peak memory of a process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self._cpu: dict[int, float] = {}
        self.peak_gib = 0.0
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stopped.wait(0.5):
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
        self._stopped.set()
        self._thread.join()
        return sum(self._cpu.values())


def measure(side: str, folder: Path, timeout_s: int, threads: int = 0) -> dict[str, float]:
    """Run one side in a separate process; return its seconds, images, CPU seconds and memory."""
    command = [sys.executable, "-m", "benchmarks.fetch", side, "--folder", str(folder)]
    command += ["--timeout", str(timeout_s), "--threads", str(threads)]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    monitor = ResourceMonitor(process.pid)
    out, _ = process.communicate()
    cpu = monitor.stop()
    if process.returncode:
        raise SystemExit(f"{side} failed")
    seconds, images = json.loads(out.strip().splitlines()[-1])
    command_s = time.perf_counter() - started
    return {
        "seconds": seconds,
        "images": images,
        "cpu": cpu,
        "gib": monitor.peak_gib,
        "command": command_s,
    }


def compare(name: str) -> None:
    """Print one row per side."""
    rows, side, share, timeout_s = LISTS[name]
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
        table = pa.table({"url": urls, "caption": [f"image {n}" for n in range(rows)]})
        pq.write_table(table, folder / "list.parquet", row_group_size=1_000)
        of_curation = measure("ours", folder, timeout_s)
        of_img2dataset = {n: measure("theirs", folder, timeout_s, n) for n in THREADS[name]}
    server.terminate()
    size = len(encoded_image(0, side)) / 1000
    print(f"\n{name}: {rows:,} rows, {len(HOSTS)} hosts, {size:.0f} kB, limit {timeout_s} s\n")
    print(
        "| | s | whole command, s | images | images/s | CPU ms per image | peak, GiB "
        "| speed-up | speed-up of the whole command |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    _print_row("curation", of_curation, None)
    for threads, measured in of_img2dataset.items():
        _print_row(f"img2dataset, {threads} threads", measured, of_curation)
    sys.stdout.flush()


def killed() -> None:
    """Print the repeated requests of a killed run, and whether its table equals an undisturbed one."""
    port, ready = multiprocessing.Value("i", 0), multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(64, [], port, ready), daemon=True)
    server.start()
    ready.wait(60)
    rng = np.random.default_rng(int(time.time()))
    with tempfile.TemporaryDirectory() as temporary:
        undisturbed, disturbed = Path(temporary) / "undisturbed", Path(temporary) / "disturbed"
        hosts = np.resize(HOSTS, KILLED_ROWS)
        urls = [f"http://{host}:{port.value}/{n}.jpg" for n, host in enumerate(hosts)]
        table = pa.table({"url": urls, "caption": [f"image {n}" for n in range(KILLED_ROWS)]})
        for folder in (undisturbed, disturbed):
            folder.mkdir()
            pq.write_table(table, folder / "list.parquet")
        command = [sys.executable, "-m", "benchmarks.fetch", "ours", "--folder"]
        subprocess.run([*command, str(undisturbed)], check=True, stdout=subprocess.DEVNULL)
        _read_log(port.value)
        waits = []
        while len(waits) < KILLS:
            process = subprocess.Popen(
                [*command, str(disturbed)], stdout=subprocess.DEVNULL, start_new_session=True
            )
            waits.append(float(rng.uniform(12, 25)))
            try:
                process.wait(waits[-1])
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        subprocess.run([*command, str(disturbed)], check=True, stdout=subprocess.DEVNULL)
        log = _read_log(port.value)
        is_same = _rows(undisturbed) == _rows(disturbed)
    server.terminate()
    times = ", ".join(f"{w:.0f}" for w in waits)
    print(f"\n{KILLED_ROWS:,} rows, killed {len(waits)} times, {times} s after each start:")
    print(f"{log['images']:,} images requested, {log['repeated']:,} repeated requests; ", end="")
    print("the same table as the undisturbed run" if is_same else "A DIFFERENT TABLE")


def _read_log(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://{HOSTS[0]}:{port}/log", timeout=10) as response:
        log: dict[str, int] = json.load(response)
    return log


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


def _print_row(name: str, measured: dict[str, float], of_curation: dict[str, float] | None) -> None:
    """Print what was measured, and the speed-up of curation over it."""
    seconds, command, images = (measured[key] for key in ("seconds", "command", "images"))
    speed_ups = ["", ""]
    if of_curation:
        speed_ups = [
            f"{of_curation['images'] / of_curation[key] / (images / measured[key]):.2f}"
            for key in ("seconds", "command")
        ]
    print(
        f"| {name} | {seconds:.1f} | {command:.1f} | {images:,.0f} | {images / seconds:,.0f} "
        f"| {1000 * measured['cpu'] / images:.1f} | {measured['gib']:.2f} "
        f"| {speed_ups[0]} | {speed_ups[1]} |"
    )


def main() -> None:
    """Run the lists that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="+", choices=[*LISTS, "killed", "ours", "theirs"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--timeout", type=int, default=10)
    parser.add_argument("--threads", type=int, default=64)
    options = parser.parse_args()
    sides: dict[str, Callable[[], tuple[float, int]]] = {
        "ours": lambda: ours(options.folder, options.timeout),
        "theirs": lambda: theirs(options.folder, options.timeout, options.threads),
    }
    if options.what[0] in sides:
        print(json.dumps(sides[options.what[0]]()))
        return
    print(f"{conditions()}, {os.cpu_count()} processors")
    for name in options.what:
        killed() if name == "killed" else compare(name)


if __name__ == "__main__":
    main()
