"""The log file of a run: what its process, libraries and children say, in bounded space."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

from curation.logs import STDERR_LOGGER, LogFormatter, note_log
from curation.masking import mask_address
from curation.streams import copied_lines

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

MAX_BYTES = 8 * 2**20
"""Size of the file at which it is renamed and a new one begun; the one that was renamed before goes."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogFile(RotatingFileHandler):
    """Writes log records into a file, without secrets and characters that act on a terminal.

    Args:
        path: the file. What it has is kept.
        max_bytes: see `MAX_BYTES`; no file gets larger, unless one record is.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8")
        self.setFormatter(_MaskedFormatter(_FORMAT))
        self._process, self._has_failed = os.getpid(), False

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Whether the file is full. A forked process never renames the file of its parent."""
        is_file = Path(self.baseFilename).is_file()
        if os.getpid() != self._process or not is_file or self.stream is None:
            return False
        # The class above counts characters, of which one has up to four bytes.
        line = (self.format(record) + self.terminator).encode("utf-8", "replace")
        written = self.stream.seek(0, os.SEEK_END)
        return written > 0 and written + len(line) > self.maxBytes

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the file could not be written before."""
        if not self._has_failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that the file cannot be written; the run goes on."""
        self._give_up(sys.exc_info()[1])

    def close(self) -> None:
        """Close the file."""
        try:
            super().close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: BaseException | None) -> None:
        if not self._has_failed:
            self._has_failed = True
            sys.stderr.write(f"warning: {self.baseFilename} cannot be written any more: {error}\n")

    def add_line(self, line: str) -> None:
        """Write a line that was no log record."""
        record = logging.LogRecord(STDERR_LOGGER, logging.INFO, "", 0, "%s", (line,), None)
        self.handle(record)


class _MaskedFormatter(LogFormatter):
    """Formats records without the secrets of addresses, also of those that nobody noted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        return mask_address(super().format(record))


@contextmanager
def log_file(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[None]:
    """Write into a file what is logged from INFO on and what else is said within a context.

    An error that ends the context is written with its trace, and says where the file is (`log_of`).

    Args:
        path: the file.
        max_bytes: see `LogFile`.

    Raises:
        OSError: the file cannot be created.
    """
    handler, root = LogFile(path, max_bytes), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO))
    try:
        with copied_lines(handler.add_line):
            yield
    except BaseException as error:
        handler.handle(_ending(error))
        note_log(error, str(path))
        raise
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def _ending(error: BaseException) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__)
    return logging.LogRecord(__name__, logging.ERROR, "", 0, "The run ended", None, trace)
