"""Ends the processes that a script has started in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection

STOP_S = 20.0
"""Seconds that processes have to end by themselves."""


def stop_sessions(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """End processes, each the first of a session, and all that they started.

    Signals to this process are ignored from now on: a second Ctrl-C would leave some behind.
    """
    for kind in (signal.SIGINT, signal.SIGTERM):
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
