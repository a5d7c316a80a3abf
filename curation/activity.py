"""What a run does now, for those who watch it: the stage, and how far its work is."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
"""Units of time, each with its seconds."""


@dataclass(frozen=True)
class WorkCounts:
    """How far some work is.

    Attributes:
        done: finished items.
        total: all items of the work. What earlier runs finished is no part of it.
        unit: what the items are: `rows`, `fragments` or `tasks`.
        outcomes: finished rows by `ok` or reason, as far as they are known.
        bytes: bytes that were downloaded.
    """

    done: int
    total: int
    unit: str = "tasks"
    outcomes: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a run was at some moment.

    Attributes:
        stage: the stage that it worked on.
        step: fingerprint of the step.
        stage_seconds: since the stage began.
        part: the part of the stage that it worked on; empty if the work was not counted.
        counts: how far this part was.
        per_second: finished items a second, since the part began.
        seconds_left: seconds until the part ends, if it goes on as before; None if that is unknown.
    """

    stage: str
    step: str
    stage_seconds: float
    part: str = ""
    counts: WorkCounts | None = None
    per_second: float = 0.0
    seconds_left: float | None = None

    @staticmethod
    def from_json(spec: Any) -> Progress | None:
        """Return the progress that `dataclasses.asdict` described, or None if it is not one.

        Raises:
            TypeError: there are keys that no progress has.
        """
        if spec is None:
            return None
        counts = spec.get("counts")
        return Progress(**(spec | {"counts": None if counts is None else WorkCounts(**counts)}))


class Activity:
    """What a run does now. The threads that work say it; another one reads it from time to time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage = self._step = self._part = ""
        self._stage_began = self._part_began = 0.0
        self._counts: WorkCounts | None = None

    def begin_stage(self, stage: str, step: str) -> None:
        """Say that a stage begins.

        Args:
            stage: its name.
            step: fingerprint of the step.
        """
        with self._lock:
            self._stage, self._step, self._stage_began = stage, step, time.monotonic()
            self._part, self._counts = "", None

    def begin_part(self, part: str, total: int) -> None:
        """Say that a part of the stage begins, with so many tasks."""
        with self._lock:
            self._part, self._part_began = part, time.monotonic()
            self._counts = WorkCounts(0, total)

    def set_counts(self, counts: WorkCounts) -> None:
        """Say how far the part is."""
        with self._lock:
            self._counts = counts

    def end_part(self) -> None:
        """Say that the part has ended."""
        with self._lock:
            self._part, self._counts = "", None

    def progress(self) -> Progress | None:
        """Return how far the run is; None before its first stage."""
        with self._lock:
            if not self._stage:
                return None
            now = time.monotonic()
            progress = Progress(self._stage, self._step, round(now - self._stage_began, 1))
            if self._counts is None:
                return progress
            return _with_rate(progress, self._part, self._counts, now - self._part_began)


def _with_rate(progress: Progress, part: str, counts: WorkCounts, seconds: float) -> Progress:
    per_second = counts.done / seconds if seconds > 0 else 0.0
    left = max(counts.total - counts.done, 0) / per_second if per_second else None
    return replace(
        progress,
        part=part,
        counts=counts,
        per_second=round(per_second, 3),
        seconds_left=None if left is None else round(left, 1),
    )


def format_duration(seconds: float) -> str:
    """Return a time as people say it: 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = round(seconds)
    for (unit, size), (smaller_unit, smaller_size) in pairwise(_UNITS):
        if whole >= size:
            return f"{whole // size:,} {unit} {whole % size // smaller_size} {smaller_unit}"
    return f"{whole} s"


def utc_now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
