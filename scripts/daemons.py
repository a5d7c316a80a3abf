"""Starts and ends the processes that a script has in the background."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

STOP_S = 20.0
"""Seconds that processes have to end by themselves."""


def end_on_signals() -> None:
    """Have this process end in order when it is asked to, or when its terminal is closed."""
    for kind in (signal.SIGTERM, signal.SIGHUP):
        # `nohup` has it ignored.
        if signal.getsignal(kind) is not signal.SIG_IGN:
            signal.signal(kind, lambda *_: sys.exit(0))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder within a context: a second script would replace the files of the first.

    Raises:
        SystemExit: another process holds it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"It runs in {folder} already: end that one, or name another folder with --home."
            ) from None
        yield


def stop_sessions(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """End processes, each the first of a session, and all that they started.

    Signals to this process are ignored from now on: a second Ctrl-C would leave some behind.
    """
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                os.killpg(process.pid, kind)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + STOP_S
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
