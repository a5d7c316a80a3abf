"""Signals by which others ask a process to end: schedulers, containers, a terminal that is closed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
UNWINDING_S = 30.0
"""Seconds after a signal in which others are no further reason to end. Airflow, systemd and Java send a
second one at once, which would interrupt what the first one began."""


class Terminated(SystemExit):
    """The process was asked to end. Its code is the exit status that shells give to the signal.

    As an exception it lets a run give back its lease and record that it ended. Without it the next run
    on another machine waits for a minute, and metrics and lineage events say for ever that it works.
    """

    def __init__(self, number: int) -> None:
        self.number, self.status = number, 128 + number
        super().__init__(self.status)

    def __str__(self) -> str:
        return signal.Signals(self.number).name


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Raise Terminated within a context where a signal would end the process at once.

    The context ends with it, also if what ends on the way fails: Java may have got the same signal.
    """
    process = os.getpid()
    received: list[tuple[int, float]] = []

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            # A fork would unwind what belongs to its parent.
            os._exit(128 + number)
        now = time.monotonic()
        if received and now - received[-1][1] < UNWINDING_S:
            return
        received.append((number, now))
        raise Terminated(number)

    # `nohup` has a signal ignored, and who calls this in a program of theirs may handle it.
    before = {kind: signal.getsignal(kind) for kind in ENDING}
    handled = [kind for kind, handler in before.items() if handler is signal.SIG_DFL]
    for kind in handled:
        signal.signal(kind, end)
    try:
        yield
    except Exception as error:
        if received:
            raise Terminated(received[0][0]) from error
        raise
    finally:
        for kind in handled:
            signal.signal(kind, signal.SIG_DFL)
