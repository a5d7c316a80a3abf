"""An event loop whose time passes only while all its tasks wait, so that seconds take no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class VirtualClock(asyncio.SelectorEventLoop):
    """Moves its clock to the next timer instead of waiting for it; for tasks without sockets."""

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__(_NoWait(self))

    def time(self) -> float:
        return self.seconds


class _NoWait(selectors.DefaultSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("all tasks wait, and no timer is set")
        self._clock.seconds += max(0.0, timeout)
        return super().select(0)


def run(task: Coroutine[Any, Any, None]) -> None:
    """Run a task and those that it starts."""
    with asyncio.Runner(loop_factory=VirtualClock) as runner:
        runner.run(task)
