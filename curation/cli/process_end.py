"""How a process of the command line ends once its work is done."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from curation.terminal import visible


def run_and_end(program: Callable[[], object]) -> NoReturn:
    """Run a program, and end the process with its exit status.

    Threads that are no daemons are waited for, and exit handlers run, but Python is not taken down:
    where a thread of Arrow lets go of a Python object meanwhile, the process aborts (apache/arrow
    issues 34314 and 36980), and what was done counts as failed.

    Args:
        program: raises SystemExit, or returns where the status is 0. Another exception is shown as
            Python shows it.
    """
    try:
        program()
        status = 0
    except SystemExit as ended:
        status = _status(ended.code)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # Output of commands was flushed where it was written, and a failure reported there.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def _status(code: Any) -> int:
    """Return the exit status of a SystemExit, as Python ends with it."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    sys.stderr.write(f"{visible(str(code))}\n")
    return 1
