"""Seconds and peak memory of some work: of this process, and of the Python workers of Spark."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.engine.spark import load_cluster, open_session
from curation.engine.spark_workers import SparkWorkers


def peak_of(process: str) -> int:
    """Return the peak memory of a process in KiB, or 0 if it has ended.

    Args:
        process: its number.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def workers_peak() -> int:
    """Return the largest peak memory of the running Python workers of Spark, in KiB."""
    peaks = [0]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"pyspark" in command and b"daemon" in command:
            peaks.append(peak_of(path.parent.name))
    return max(peaks)


class MemoryPoller(threading.Thread):
    """Polls the memory of workers until it is stopped, so that workers that end early count too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0, threading.Event()

    def run(self) -> None:
        """Poll twice a second."""
        while not self.ended.wait(0.5):
            self.peak = max(self.peak, workers_peak())


@contextmanager
def measured(figures: dict[str, Any]) -> Iterator[None]:
    """Measure the body of a `with` statement.

    Args:
        figures: gets `seconds`, and the peak memory `driver` and `worker` in GiB.
    """
    poller, started = MemoryPoller(), time.perf_counter()
    poller.start()
    yield
    figures["seconds"] = time.perf_counter() - started
    poller.ended.set()
    poller.join()
    figures["driver"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures["worker"] = poller.peak / 2**20


def workers() -> SparkWorkers:
    """Return workers on this machine, one per core."""
    return SparkWorkers(lambda: open_session("benchmark", load_cluster("local")))
