"""Spark's Python daemon for `make coverage`: its workers save what they measured before they end.

Spark ends workers by SIGHUP, whose default action would lose the measurement. Spark starts this module
in place of its own where `spark.python.daemon.module` names it.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from pyspark import daemon


def save_and_end(number: int, frame: FrameType | None) -> None:
    """Save the coverage of this process and end it; a signal about a child changes nothing."""
    import coverage

    if number == signal.SIGCHLD:
        return
    measurement = coverage.Coverage.current()
    if measurement is not None:
        measurement.stop()
        measurement.save()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # What a worker installs for SIGHUP, SIGTERM and SIGCHLD after the fork.
    untyped: Any = daemon
    untyped.SIG_DFL = save_and_end
    daemon.manager()
