"""The progress of a fetch while it runs: rows, bytes, reasons, speed and the time left.

Each task writes its counts to its work folder every few seconds, and the driver adds them up.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from rich.filesize import decimal

from curation.activity import WorkCounts, format_duration
from curation.engine.units import Unit
from curation.store.clock import SystemClock
from curation.store.manifest import FragmentRecord, count_outcomes
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

PROGRESS_FILE = "progress.json"
INTERVAL_S = 2.0
"""Seconds between two writes of a task."""
UNITS_PER_READ = 32
"""Units whose counts are read for one line."""
MAX_REASONS = 4
"""Most frequent reasons that the line shows."""


class TaskProgress:
    """Counts the finished rows of a task. As a context, it writes the counts from time to time.

    They are written from a thread, so also while no row ends, as when all wait for slow hosts.

    Args:
        write: writes the counts, as JSON, where the driver reads them.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._reasons: Counter[str] = Counter()
        self._bytes = 0
        self._changed = False
        self._end: Callable[[], None] = lambda: None

    def count(self, reason: str, size: int) -> None:
        """Count a finished row.

        Args:
            reason: why it failed, or `ok`.
            size: bytes that were downloaded for it.
        """
        with self._lock:
            self._reasons[reason] += 1
            self._bytes += size
            self._changed = True

    def write(self) -> None:
        """Write the counts, if they changed since the last time."""
        with self._lock:
            if not self._changed:
                return
            self._changed = False
            content = json.dumps({"outcomes": self._reasons, "bytes": self._bytes}).encode()
        try:
            self._write(content)
        except Exception as error:
            # Whatever it is: the fetch needs these counts for nothing.
            logger.debug("The counts of a task were not written: %s", error)

    def __enter__(self) -> TaskProgress:
        self._end = SystemClock().repeat(INTERVAL_S, self.write)
        return self

    def __exit__(self, *error: object) -> None:
        self._end()


class FetchProgress:
    """The progress of some units: the counts of running tasks and of finished fragments.

    Each call reads the counts of a few units, in turn: its cost does not depend on their number.
    """

    def __init__(self, store: Store, units: Sequence[Unit]) -> None:
        self._store = store
        self._unfinished = {unit.name: unit.work_folder for unit in units}
        self._rows = sum(unit.arguments["pairs"].rows for unit in units)
        self._last_counts: dict[str, Mapping[str, Any]] = {}
        self._finished: Counter[str] = Counter()
        self._finished_bytes = 0
        self._turn = 0
        self._started = time.monotonic()

    @staticmethod
    def summarise(
        result: Sequence[Sequence[Mapping[str, FragmentRecord]]],
    ) -> list[tuple[str, dict[str, int], int]]:
        """Return the name, the outcomes and the bytes of each fragment of some chains."""
        summaries = []
        for records in chain.from_iterable(result):
            record = records["images"]
            outcomes = count_outcomes([record.counts])
            summaries.append((record.name, outcomes, int(record.stats.get("bytes", 0))))
        return summaries

    def add(self, summary: list[tuple[str, dict[str, int], int]]) -> None:
        """Count finished fragments, each once."""
        for name, outcomes, size in summary:
            if self._unfinished.pop(name, None) is not None:
                self._last_counts.pop(name, None)
                self._finished.update(outcomes)
                self._finished_bytes += size

    def counts(self) -> WorkCounts:
        """Return the finished rows of running tasks and of finished fragments."""
        for name, folder in self._next_units():
            self._read_counts(name, folder)
        reasons, size = Counter(self._finished), self._finished_bytes
        for counts in list(self._last_counts.values()):
            reasons.update(counts.get("outcomes", {}))
            size += counts.get("bytes", 0)
        return WorkCounts(sum(reasons.values()), self._rows, "rows", dict(reasons), size)

    def describe(self, counts: WorkCounts) -> str:
        """Return the progress as one line."""
        seconds = time.monotonic() - self._started
        return format_progress(counts.outcomes, counts.bytes, counts.total, seconds)

    def _next_units(self) -> list[tuple[str, str]]:
        units = list(self._unfinished.items())
        start = self._turn if self._turn < len(units) else 0
        self._turn = start + UNITS_PER_READ
        return units[start : start + UNITS_PER_READ]

    def _read_counts(self, name: str, folder: str) -> None:
        content = self._store.storage.read(f"{folder}/{PROGRESS_FILE}")
        try:
            counts = json.loads(content or b"")
        except ValueError:
            # The file does not exist yet or is being written: the last counts stay.
            logger.debug("no progress of %s", name)
        else:
            if name in self._unfinished:
                self._last_counts[name] = counts


def format_progress(reasons: Mapping[str, int], size: int, rows: int, seconds: float) -> str:
    """Return the progress of a fetch as one line.

    Args:
        reasons: finished rows by `ok` or reason.
        size: bytes that were downloaded.
        rows: rows to fetch in all.
        seconds: since the fetch began.
    """
    finished = sum(reasons.values())
    parts = [f"{finished:,} of {rows:,} rows", decimal(size)]
    if seconds > 0 and finished:
        seconds_left = max(rows - finished, 0) * seconds / finished
        parts.append(f"{reasons.get('ok', 0) / seconds:,.0f} images/s")
        parts.append(f"{format_duration(seconds_left)} left")
    if finished:
        by_count = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        parts += [f"{reason} {100 * n / finished:.0f} %" for reason, n in by_count[:MAX_REASONS]]
    return " · ".join(parts)
