"""Workers in this process that count what the driver holds besides their work."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from curation.engine.parallel import InProcess, Note, ShuffleJob

T = TypeVar("T")
R = TypeVar("R")


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

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        note: Note | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[R]:
        self._note()
        try:
            return super().map(label, function, items, note, gpu, isolated)
        finally:
            tracemalloc.reset_peak()

    def exchange(self, job: ShuffleJob) -> list[Any]:
        self._note()
        try:
            return super().exchange(job)
        finally:
            tracemalloc.reset_peak()
