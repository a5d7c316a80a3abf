"""Workers in this process that count what the driver holds besides their work."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curation.engine.parallel import InProcess, ShuffleJob


class DriverMemory(InProcess):
    """Counts the bytes of Python and numpy at its largest, except while items are computed."""

    def __init__(self) -> None:
        self.peak = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count from here on."""
        tracemalloc.start()
        try:
            yield
            self._note()
        finally:
            tracemalloc.stop()

    def _note(self) -> None:
        self.peak = max(self.peak, tracemalloc.get_traced_memory()[1])

    @contextmanager
    def _not_counting(self) -> Iterator[None]:
        self._note()
        try:
            yield
        finally:
            tracemalloc.reset_peak()

    def map(self, *args: Any, **options: Any) -> list[Any]:
        with self._not_counting():
            return super().map(*args, **options)

    def exchange(self, job: ShuffleJob) -> list[Any]:
        with self._not_counting():
            return super().exchange(job)
