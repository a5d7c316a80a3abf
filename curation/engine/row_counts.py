"""How many rows the units that run now have finished, for those who watch.

On this machine, each worker writes the count of its unit into a small file, in a folder that the run
names in an environment variable. Elsewhere the variable is not set, and whole units are counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

VARIABLE = "CURATION_ROW_COUNTS"
"""The environment variable with the folder of the counts."""
INTERVAL_S = 0.5
"""Seconds between two writes of a count."""


class _Count:
    """The finished rows of one unit."""

    def __init__(self, path: Path) -> None:
        self._path, self._written = path, time.monotonic()
        self._rows, self.is_exact = 0, False

    def add(self, rows: int) -> None:
        """Count rows, and write the count from time to time."""
        self._rows += rows
        if time.monotonic() - self._written >= INTERVAL_S:
            self._written = time.monotonic()
            # A count is not worth stopping the work for.
            with suppress(OSError):
                self._path.write_text(str(self._rows), encoding="ascii")


_of_thread = threading.local()


@contextmanager
def counting(unit: str) -> Iterator[None]:
    """Count the rows that this thread finishes within a context, under the name of a unit."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        yield
        return
    path = _path(folder, unit)
    _of_thread.count = _Count(path)
    try:
        yield
    finally:
        _of_thread.count = None
        # A unit of the next stage may have the same name.
        with suppress(OSError):
            path.unlink(missing_ok=True)


def count_finished(rows: int) -> None:
    """Say that rows of the unit that this thread computes are finished, before it yields them."""
    count: _Count | None = getattr(_of_thread, "count", None)
    if count is not None:
        count.is_exact = True
        count.add(rows)


def count_yielded(batch: Any) -> None:
    """Count the rows of a batch that a unit has yielded, unless it calls `count_finished`."""
    count: _Count | None = getattr(_of_thread, "count", None)
    if count is not None and not count.is_exact:
        count.add(batch.num_rows)


def read_count(unit: str) -> int:
    """Return how many rows a unit that runs has finished, as far as it is known."""
    folder = os.environ.get(VARIABLE)
    try:
        return int(_path(folder, unit).read_text(encoding="ascii")) if folder else 0
    except (OSError, ValueError):
        # It has written nothing yet, or is writing.
        return 0


@contextmanager
def kept_counts() -> Iterator[None]:
    """Have the processes that are started within a context write their counts."""
    before = os.environ.get(VARIABLE)
    with TemporaryDirectory(prefix="curation-rows-", ignore_cleanup_errors=True) as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def _path(folder: str, unit: str) -> Path:
    # Names of units may have characters that no file name has.
    return Path(folder) / sha256(unit.encode()).hexdigest()[:32]
