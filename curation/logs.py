"""Logs, as text or as JSON: text of strangers never acts on a terminal, and secrets are concealed.

With JSON, each line that a command writes to standard error is one object: records of Python's
logging, what the command says, warnings and traces, and what Spark's JVM and other children write.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from curation.secrets import conceal
from curation.streams import CleanStream, write_lines_as
from curation.terminal import visible

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

LogFormat = Literal["text", "json"]
ERROR_FIELD = "error_fields"
"""Attribute of a log record with the fields of an error, for JSON."""
STDERR_LOGGER = "stderr"
"""The logger that JSON names for lines that were no log records."""
_LOG_NOTE = "The log of the run: "
_run_fields: dict[str, str] = {}


def set_run_fields(fields: Mapping[str, str]) -> None:
    """Set what every JSON log line says of the run: its name, the recipe, and the stage that works."""
    global _run_fields  # noqa: PLW0603
    # One assignment: other threads log meanwhile.
    _run_fields = dict(fields)


class LogFormatter(logging.Formatter):
    """Formats log records; the lines after the first are indented, so none passes for a record.

    Times are UTC, as in records of runs: machines of several time zones may write into one store.
    """

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the time of a record."""
        return _time(record.created)

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text that can be printed."""
        return visible(super().format(record)).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """Formats log records as JSON, one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON: time, level, logger, message, and the run's fields."""
        line = {"time": record.created, "level": record.levelname, "logger": record.name}
        more = {}
        if record.exc_info and record.exc_info[1] is not None:
            more["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        more |= getattr(record, ERROR_FIELD, {})
        return json_line(line | {"message": record.getMessage()} | _run_fields | more)


def json_line(fields: Mapping[str, Any]) -> str:
    """Return the fields of a log record as JSON in ASCII, without secrets and acting characters.

    Args:
        fields: `time` in seconds since 1970, `level`, and others.
    """
    shown = {**fields, "time": _time(fields["time"]), "level": str(fields["level"]).lower()}
    return json.dumps({key: _shown(value) for key, value in shown.items()})


def _time(seconds: float) -> str:
    """Return a time since 1970 in UTC, ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _shown(value: Any) -> Any:
    """Return a value of JSON in which no text acts on a terminal or has a secret."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {visible(str(key)): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return visible(str(value))


class JsonLines(io.TextIOBase):
    """A stream that writes what it gets as log records in JSON: each text that ends a line is one.

    Args:
        stream: gets the JSON.
        level: level of the records.
    """

    def __init__(self, stream: TextIO, level: int = logging.INFO) -> None:
        self._stream, self._level, self._begun = stream, level, ""

    def write(self, text: str, /) -> int:
        """Write a text; return its length."""
        self._begun += text
        if self._begun.endswith("\n"):
            message, self._begun = self._begun.strip("\n"), ""
            if message.strip():
                self._stream.write(line_as_json(message, self._level) + "\n")
        return len(text)

    def flush(self) -> None:
        """Write what was begun, and flush the stream."""
        if self._begun:
            self.write("\n")
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether bars and colours may be drawn: never."""
        return False

    def fileno(self) -> int:
        """Return the number of the stream's file."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Whether it can be written: always."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return self._stream.encoding


def line_as_json(message: str, level: int = logging.INFO) -> str:
    """Return a line of standard error that was no log record as one."""
    record = logging.LogRecord(STDERR_LOGGER, level, "", 0, message, None, None)
    return JsonFormatter().format(record)


class _Stderr:
    """Standard error as it is when a record is written: above a bar that is shown then.

    Records are clean, and a log file gets them as records.
    """

    def write(self, text: str) -> None:
        """Write a text."""
        getattr(sys.stderr, "rich_proxied_file", sys.stderr).write(text)

    def flush(self) -> None:
        """Flush the stream."""
        getattr(sys.stderr, "rich_proxied_file", sys.stderr).flush()


def prepare_streams(level: int, text_format: str, log_format: LogFormat = "text") -> None:
    """Set up logging, and print what the standard streams cannot encode as escapes.

    Args:
        level: the lowest level that is logged. As JSON, it is INFO at most.
        text_format: the format of log records as text.
        log_format: `json` writes all of standard error as JSON lines.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream = getattr(stream, "rich_proxied_file", stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    formatter: logging.Formatter = LogFormatter(text_format)
    target: Any = _Stderr()
    if log_format == "json":
        formatter, level = JsonFormatter(), min(level, logging.INFO)
        target = _write_json()
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    # Not only the root's: a log file of a run has lower levels than what is shown.
    handler.setLevel(level)
    handler.addFilter(_is_no_trace_of_py4j)
    logging.basicConfig(level=level, handlers=[handler])
    # It says of each connection to the JVM that it ends.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    sys.excepthook = print_traceback
    if log_format == "json":
        sys.excepthook = _log_traceback
        threading.excepthook = _log_thread


def _is_no_trace_of_py4j(record: logging.LogRecord) -> bool:
    """Whether a record is shown: True for all but py4j's traces of a lost JVM and of Ctrl-C.

    The run reports both itself, and its log file has the traces. py4j writes them to the root logger.
    """
    return not (record.name == "root" and record.module == "java_gateway")


def _write_json() -> TextIO:
    """Turn what is written to standard error into JSON; return the stream for what is JSON already."""
    plain: TextIO = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    lines: Any = JsonLines(plain)
    sys.stderr = CleanStream(lines)
    write_lines_as(line_as_json)
    return plain


def log_json_error(error: Mapping[str, Any]) -> bool:
    """Log an error that ends a command, if its logs are JSON; return whether they are.

    Args:
        error: of `CurationError.to_json`; its fields stand in the record.
    """
    is_json = isinstance(getattr(sys.stderr, "rich_proxied_file", None), JsonLines)
    if is_json:
        logging.getLogger("curation").error("%s", error["message"], extra={ERROR_FIELD: error})
    return is_json


def note_log(error: BaseException, path: str) -> None:
    """Add the path of the log file to the error that ended the run; its trace shows the path too."""
    if log_of(error) is None:
        error.add_note(_LOG_NOTE + path)


def log_of(error: BaseException) -> str | None:
    """Return the path of the log file of the run that an error ended; None if it ended none."""
    notes = (n for n in getattr(error, "__notes__", ()) if n.startswith(_LOG_NOTE))
    path = next((conceal(note.removeprefix(_LOG_NOTE)) for note in notes), None)
    # Who was asked to end passes on what failed on the way.
    return log_of(error.__cause__) if path is None and error.__cause__ is not None else path


def print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error that nobody caught to standard error."""
    sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace))))


def _log_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger(__name__).critical("%s: %s", kind.__name__, error, exc_info=error)


def _log_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        _log_traceback(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
