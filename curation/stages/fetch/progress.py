"""The progress of a fetch while it runs: rows, bytes, reasons, speed and the time left.

Each task writes its counts to its work folder every few seconds, and the driver adds them up.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.filesize import decimal

from curation.engine.store import Store
from curation.engine.units import Unit, workdir_of

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

PROGRESS_FILE = "progress.json"
INTERVAL_S = 2.0
"""Seconds between two writes of a task."""
MAX_REASONS = 4
"""Most frequent reasons that the line shows."""


class TaskProgress:
    """Counts the finished rows of a task, and writes the counts from time to time.

    Args:
        write: writes the counts, as JSON, where the driver reads them.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._reasons: Counter[str] = Counter()
        self._bytes = 0
        self._next_write = time.monotonic() + INTERVAL_S

    def count(self, reason: str, size: int) -> None:
        """Count a finished row.

        Args:
            reason: why it failed, or `ok`.
            size: bytes that were downloaded for it.
        """
        self._reasons[reason] += 1
        self._bytes += size
        if time.monotonic() >= self._next_write:
            self._next_write = time.monotonic() + INTERVAL_S
            self._write(json.dumps({"outcomes": self._reasons, "bytes": self._bytes}).encode())


class FetchProgress:
    """The progress of some units: the counts of running tasks and of finished fragments."""

    def __init__(self, store: Store, units: Sequence[Unit]) -> None:
        self._store = store
        self._unfinished = {unit.name: unit for unit in units}
        self._rows = sum(unit.arguments["pairs"].rows for unit in units)
        self._last_counts: dict[str, Mapping[str, Any]] = {}
        self._finished: Counter[str] = Counter()
        self._finished_bytes = 0
        self._started = time.monotonic()

    def __call__(self) -> str:
        """Return the progress as one line."""
        self._add_finished()
        reasons, size = Counter(self._finished), self._finished_bytes
        for unit in self._unfinished.values():
            counts = self._counts_of(unit)
            reasons.update(counts.get("outcomes", {}))
            size += counts.get("bytes", 0)
        return format_progress(reasons, size, self._rows, time.monotonic() - self._started)

    def _add_finished(self) -> None:
        names = {unit.outputs["images"].memo: name for name, unit in self._unfinished.items()}
        if not names:
            return
        for memo, record in self._store.finished_records("tables/images", list(names)).items():
            for counts in record.counts.values():
                self._finished.update(counts)
            self._finished_bytes += int(record.stats.get("bytes", 0))
            del self._unfinished[names[memo]]

    def _counts_of(self, unit: Unit) -> Mapping[str, Any]:
        content = self._store.get(f"{workdir_of(unit)}/{PROGRESS_FILE}")
        try:
            self._last_counts[unit.name] = json.loads(content or b"")
        except ValueError:
            # The file does not exist yet or is being written: the last counts stay.
            logger.debug("no progress of %s", unit.name)
        return self._last_counts.get(unit.name, {})


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
        parts.append(f"{_format_duration(seconds_left)} left")
    if finished:
        by_count = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        parts += [f"{reason} {100 * n / finished:.0f} %" for reason, n in by_count[:MAX_REASONS]]
    return " · ".join(parts)


def _format_duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
