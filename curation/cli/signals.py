"""Signals by which others ask a process to end: schedulers, containers, a terminal that is closed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from curation.errors import note_request_to_end

ENDING = (signal.SIGTERM, signal.SIGHUP)


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
    received: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            # A fork would unwind what belongs to its parent.
            os._exit(128 + number)
        received.append(number)
        if not _is_unwinding():
            request = Terminated(received[0])
            note_request_to_end(request)
            raise request

    # `nohup` has a signal ignored, and who calls this in a program of theirs may handle it.
    before = {kind: signal.getsignal(kind) for kind in ENDING}
    handled = [kind for kind, handler in before.items() if handler is signal.SIG_DFL]
    for kind in handled:
        signal.signal(kind, end)
    try:
        yield
    except Exception as error:
        if received:
            raise Terminated(received[0]) from error
        raise
    finally:
        note_request_to_end(None)
        for kind in handled:
            signal.signal(kind, signal.SIG_DFL)


def _is_unwinding() -> bool:
    """Whether the thread does what remains to be done after an earlier signal.

    Airflow, systemd and Java send a second one at once, which must not interrupt it.
    """
    error = sys.exception()
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, Terminated):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
