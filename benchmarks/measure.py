"""Seconds and peak memory of some work: of this process, and of the processes of Spark."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.engine.cluster import load_cluster
from curation.engine.spark import open_context
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


WORDS = {"worker": (b"pyspark", b"daemon"), "java": (b"java", b"org.apache.spark")}
"""Words in the command lines of Python workers of Spark, and of its Java."""


def peaks() -> dict[str, int]:
    """Return the largest peak memory of running Python workers and of Java, in KiB."""
    largest = dict.fromkeys(WORDS, 0)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        for kind, words in WORDS.items():
            if all(word in command for word in words):
                largest[kind] = max(largest[kind], peak_of(path.parent.name))
    return largest


class MemoryPoller(threading.Thread):
    """Polls the memory of workers and Java until it is stopped; those that end early count too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks, self.ended = dict.fromkeys(WORDS, 0), threading.Event()

    def run(self) -> None:
        """Poll twice a second."""
        while not self.ended.wait(0.5):
            for kind, peak in peaks().items():
                self.peaks[kind] = max(self.peaks[kind], peak)


@contextmanager
def measured(figures: dict[str, Any]) -> Iterator[None]:
    """Measure the body of a `with` statement.

    Args:
        figures: gets `seconds`, and the peak memory `driver`, `worker` and `java` in GiB.
    """
    poller, started = MemoryPoller(), time.perf_counter()
    poller.start()
    yield
    figures["seconds"] = time.perf_counter() - started
    poller.ended.set()
    poller.join()
    figures["driver"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures |= {kind: peak / 2**20 for kind, peak in poller.peaks.items()}


def workers() -> SparkWorkers:
    """Return workers on this machine, one per core."""
    return SparkWorkers(lambda: open_context("benchmark", load_cluster("local")))
