"""Seconds and peak memory of work, of the process that asks for it and of Spark's workers."""

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
    """Return the most memory that a process has had, in KiB; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def workers_peak() -> int:
    """Return the peak memory of the largest of Spark's Python workers, in KiB."""
    found = [0]
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes()
        except OSError:
            continue
        if b"pyspark" in command and b"daemon" in command:
            found.append(peak_of(place.parent.name))
    return max(found)


class Watch(threading.Thread):
    """Looks at the workers' memory until it is stopped: those that end early count too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.over = 0, threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self.over.wait(0.5):
            self.peak = max(self.peak, workers_peak())


@contextmanager
def measured(told: dict[str, Any]) -> Iterator[None]:
    """Note seconds and peak memory in GiB of what is done inside."""
    watch, begun = Watch(), time.perf_counter()
    watch.start()
    yield
    told["seconds"] = time.perf_counter() - begun
    watch.over.set()
    watch.join()
    told["driver"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    told["worker"] = watch.peak / 2**20


def workers() -> SparkWorkers:
    """Return workers on this machine, a core each."""
    return SparkWorkers(lambda: open_session("benchmark", load_cluster("local")))
