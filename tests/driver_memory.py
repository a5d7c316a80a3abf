"""Workers in this process that count what the driver holds besides their work."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .workers import Recording


class DriverMemory(Recording):
    """Counts the bytes of Python and numpy at its largest, except while items are computed."""

    def __init__(self) -> None:
        super().__init__()
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
    def during(self, label: str, items: Sequence[Any]) -> Iterator[None]:
        """Count nothing meanwhile."""
        self._note()
        try:
            yield
        finally:
            # What items leave as cycles is not of the driver.
            gc.collect()
            tracemalloc.reset_peak()
