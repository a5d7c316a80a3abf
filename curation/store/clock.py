"""Time, as leases use it. Tests replace it with a simulated one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


class Clock(Protocol):
    """Measures time, waits, and calls a function again and again."""

    def monotonic(self) -> float:
        """Return seconds since some moment; they never go backwards."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def repeat(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call a function every so many seconds, in the background; return a function that ends it."""


class SystemClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        time.sleep(seconds)

    def repeat(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """See `Clock.repeat`."""
        ended = threading.Event()

        def loop() -> None:
            while not ended.wait(seconds):
                call()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()

        def end() -> None:
            ended.set()
            thread.join()

        return end
