"""The standard streams of a command: nothing that is written there acts on the terminal.

Commands print with `Terminal`, which cleans text and adds colours. All else passes through here:
warnings, logs, tracebacks and progress bars of libraries, and what code outside Python writes, as the
JVM of Spark with its Python workers, and decoders of images.
"""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from curation.secrets import note_environment, note_secrets
from curation.terminal import visible

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

STDOUT, STDERR = 1, 2
PIPE_BYTES = 2**20
"""A pipe of this size is never full while code that keeps Python from running writes to it."""
MAX_LINE = 2**16
"""Bytes of a line that are kept until its end comes."""
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""Variables that turn off bars of libraries, which would be drawn by codes that are escaped."""


LOG_ONLY, LINE_BREAK = b"\x1e", b"\x1f"
"""What a line begins with that is for the log file alone, and what stands for line breaks within it; as
in conf/log4j2.properties."""
PASSED_ON_S = 5.0
"""Seconds to wait for what was written to be passed on."""

_line_format: Callable[[str], str] = str
_held: list[str] | None = None
_copy: Callable[[str], object] | None = None
_relay: _Relay | None = None


@contextmanager
def held_lines(show: Callable[[str], object]) -> Iterator[list[str]]:
    """Hold back what code outside Python writes within a context.

    Args:
        show: gets each line at the end. If the context ends with an error, the lines are written as
            they would have been: they may say why.

    Yields:
        The lines so far.
    """
    global _held  # noqa: PLW0603
    lines: list[str] = []
    _held = lines
    try:
        yield lines
    except BaseException:
        show = _write_line
        if _relay is not None:
            _relay.wait()
        raise
    finally:
        _held = None
        for line in lines:
            show(line)


@contextmanager
def copied_lines(copy: Callable[[str], object]) -> Iterator[None]:
    """Copy what libraries and code outside Python write to the standard streams within a context.

    Args:
        copy: gets each line, clean and without its end, from any thread.
    """
    global _copy  # noqa: PLW0603
    before, _copy = _copy, copy
    try:
        yield
    finally:
        if _relay is not None:
            _relay.wait()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, CleanStream):
                stream.copy_begun_line(copy)
        _copy = before


def has_log() -> bool:
    """Whether lines for the log file alone, which a child writes, get there."""
    return _copy is not None and _relay is not None


def _write_line(line: str) -> None:
    """Write a line that was held back to standard error, where lines are written that are not."""
    # The relay passes it on, once more.
    with suppress(OSError):
        os.write(STDERR, f"{line}\n".encode("utf-8", "backslashreplace"))


def write_lines_as(line_format: Callable[[str], str]) -> None:
    """Write the lines of code outside Python in another form.

    Args:
        line_format: gets a line without its end, and returns what is written for it.
    """
    global _line_format  # noqa: PLW0603
    _line_format = line_format


class CleanStream(io.TextIOBase):
    """A stream that escapes what would act on a terminal, and conceals secrets.

    Args:
        stream: gets the clean text.

    Attributes:
        rich_proxied_file: what consoles of rich write to instead, since their text is clean, and their
            colours are meant.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        self._begun = ""

    def write(self, text: str, /) -> int:
        """Write a text; return its length."""
        shown = visible(text)
        self.rich_proxied_file.write(shown)
        if _copy is not None:
            self._copy_lines(shown, _copy)
        return len(text)

    def _copy_lines(self, text: str, copy: Callable[[str], object]) -> None:
        *lines, self._begun = (self._begun + text).split("\n")
        if len(self._begun) > MAX_LINE:
            lines, self._begun = [*lines, self._begun], ""
        for line in lines:
            copy(line)

    def copy_begun_line(self, copy: Callable[[str], object]) -> None:
        """Copy the line whose end did not come."""
        if self._begun:
            copy(self._begun)
        self._begun = ""

    def flush(self) -> None:
        """Flush the stream."""
        self.rich_proxied_file.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.rich_proxied_file.isatty()

    def fileno(self) -> int:
        """Return the number of the stream's file."""
        return self.rich_proxied_file.fileno()

    def writable(self) -> bool:
        """Whether it can be written: always."""
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return getattr(self.rich_proxied_file, "encoding", None) or "utf-8"


def clean_python_streams() -> None:
    """Clean what Python code of this process writes to the standard streams; once."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, CleanStream):
            setattr(sys, name, CleanStream(stream))


def open_closed_streams() -> None:
    """Connect the standard streams that the caller closed (`>&-`) to the null device.

    Otherwise Python has none. A file that is opened later gets the number of the stream, and what is
    written there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, null)


@contextmanager
def clean_output() -> Iterator[None]:
    """Clean whatever this process and those that it starts write to the standard streams."""
    global _relay  # noqa: PLW0603
    note_environment()
    for argument in sys.argv[1:]:
        note_secrets(argument)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    before = sys.stdout, sys.stderr
    relay = _Relay.start()
    _relay = relay or _relay
    clean_python_streams()
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        sys.stdout, sys.stderr = before
        if relay is not None:
            relay.stop()
            _relay = None


class _Relay:
    """Passes on, line by line, what is written to the file numbers 1 and 2 beside Python's streams.

    Both go to standard error, since the standard output of a command is only what the command prints.
    Python's streams get other file numbers for the same files.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = {number: os.dup(number) for number in (STDOUT, STDERR)}
        self._pipe, write_end = os.pipe()
        with suppress(OSError, AttributeError):
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        for number in self._saved:
            os.dup2(write_end, number)
        os.close(write_end)
        self._mark = uuid.uuid4().hex.encode()
        self._passed_on = threading.Event()
        sys.stdout = _on_number(self._saved[STDOUT], sys.stdout)
        sys.stderr = _on_number(self._saved[STDERR], sys.stderr)
        threading.Thread(target=self._pass_on, name="streams", daemon=True).start()

    @classmethod
    def start(cls) -> _Relay | None:
        """Start one; None where the standard streams are not those of the process, as in tests."""
        try:
            numbers = sys.stdout.fileno(), sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):
            return None
        return cls() if numbers == (STDOUT, STDERR) else None

    def wait(self) -> None:
        """Wait until all that was written is passed on."""
        self._write_mark()
        self._passed_on.wait(PASSED_ON_S)

    def stop(self) -> None:
        """Wait until all that was written is passed on, and give the file numbers back."""
        self._write_mark()
        for number, saved in self._saved.items():
            os.dup2(saved, number)
        self._passed_on.wait(PASSED_ON_S)

    def _write_mark(self) -> None:
        self._passed_on.clear()
        os.write(STDERR, b"\n" + self._mark + b"\n")

    def _pass_on(self) -> None:
        line = b""
        while content := os.read(self._pipe, MAX_LINE):
            *lines, line = (line + content).split(b"\n")
            if len(line) > MAX_LINE:
                lines, line = [*lines, line], b""
            for number, each in enumerate(lines):
                if each == self._mark:
                    self._passed_on.set()
                elif each or lines[number + 1 : number + 2] != [self._mark]:
                    self._pass_on_line(each)

    def _pass_on_line(self, line: bytes) -> None:
        held, copy = _held, _copy
        is_shown = not line.startswith(LOG_ONLY) or copy is None
        line = line.removeprefix(LOG_ONLY).replace(LINE_BREAK, b"\n")
        text = visible(codecs.decode(line, "utf-8", "backslashreplace"))
        if held is not None and is_shown:
            held.append(text)
            return
        if copy is not None:
            copy(text)
        if is_shown:
            self._print(_line_format(text).encode("utf-8", "backslashreplace") + b"\n")

    def _print(self, line: bytes) -> None:
        with suppress(OSError):
            os.write(self._saved[STDERR], line)


def _on_number(number: int, like: TextIO) -> TextIO:
    """Return a text stream on a file number."""
    buffering = 1 if getattr(like, "line_buffering", True) else -1
    stream = open(  # noqa: SIM115
        number,
        "w",
        encoding=like.encoding,
        errors="backslashreplace",
        buffering=buffering,
        closefd=False,
    )
    return cast(TextIO, stream)
