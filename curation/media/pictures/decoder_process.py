"""A process that decodes pictures of strangers, within limits that the kernel keeps.

It is a fresh interpreter that has none of this process's credentials. `decoder` decides which pictures
it gets.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from curation.errors import StoreError
from curation.media.pictures.decoder_messages import (
    LENGTHS,
    MAX_HEADER_BYTES,
    Message,
    unpacked,
)
from curation.media.pictures.decoder_worker import NO_MEMORY, READY, Limits
from curation.media.web.fetch_error import FetchError

logger = logging.getLogger(__name__)

_MODULE = "curation.media.pictures.decoder_worker"
_MAX_CONTENT_BYTES = 2**30
_PIPE_BYTES = 2**20
_LEAST_PIPE_BYTES = 2**12
_READ_BYTES = 2**16
_MAX_PARTS = 256
_POLL_MS = 1000
_DEATHS = {-signal.SIGXCPU: "decoder_timeout", NO_MEMORY: "decoder_memory"}
# No variable that holds a password or a key is passed on.
_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV")
_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MKL_", "COVERAGE_")


class DecoderProcess:
    """One process that answers messages with a function of a module, in their order.

    Args:
        function: a function at the top of a module; see `decoder_worker.Function`.
        limits: what one picture may use.

    Attributes:
        pipe_bytes: messages of this size in all can be sent before their answers are received.

    Raises:
        StoreError: the process does not start.
    """

    def __init__(self, function: Callable[..., Message], limits: Limits) -> None:
        self._limits, self._is_closed = limits, False
        name = f"{function.__module__}:{function.__qualname__}"
        arguments = [name, str(limits.memory_bytes), str(limits.processor_s)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            bufsize=0,
            # Ctrl-C ends the process that asks; this one ends when its input does.
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        self.pipe_bytes = min(_enlarge(self._to), _enlarge(self._from))
        self._unanswered, self._received = 1, bytearray()
        # The process has since then been at work on the oldest message that has no answer.
        self._begun = time.monotonic() + limits.start_s - limits.wall_s
        try:
            started = self.receive(0).header == READY
        except FetchError:
            started = False
        if not started:
            self.close()
            raise StoreError(
                "The process that decodes pictures does not start (exit status "
                f"{self._process.returncode}; its output stands above)",
                fix=(
                    f"Check that {sys.executable} can run `python -m {_MODULE}`, and that the "
                    "machine has 200 MB of free memory"
                ),
            )

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def was_killed(self) -> bool:
        """Whether somebody else has ended the process: the system, if memory is short."""
        ends = (-signal.SIGKILL, -signal.SIGTERM)
        return not self._is_closed and self._process.poll() in ends

    @property
    def waits(self) -> bool:
        """Whether the process runs, and has answered every message."""
        return self.is_alive and not self._unanswered and not self._received

    @property
    def waited_s(self) -> float:
        """Seconds since `send` or `receive` was called last: how long it keeps this process waiting."""
        return time.monotonic() - self._called

    @property
    def has_answer(self) -> bool:
        """Whether `receive` would not wait for an answer to begin."""
        return bool(self._received) or bool(_poll(self._from, select.POLLIN, 0))

    def send(self, packed: Sequence[bytes], messages: int) -> None:
        """Send packed messages. Where the process has ended, `receive` says so.

        Args:
            packed: their parts, in their order.
            messages: their number.

        Raises:
            FetchError: `decoder_timeout`; the process has ended.
        """
        if not self._unanswered:
            self._begun = time.monotonic()
        self._unanswered += messages
        self._start_call()
        parts = deque(memoryview(part) for part in packed)
        while parts:
            try:
                written = os.writev(self._to, list(islice(parts, _MAX_PARTS)))
            except BlockingIOError:
                self._wait(self._to, select.POLLOUT)
                continue
            except BrokenPipeError:
                return
            while parts and written >= len(parts[0]):
                written -= len(parts.popleft())
            if parts:
                parts[0] = parts[0][written:]

    def receive(self, most: int) -> Message:
        """Return the answer to the oldest message that has none.

        Args:
            most: bytes that the content of an answer may have: a picture that has taken the process
                over may claim any number.

        Raises:
            FetchError: `decoder_died` or `decoder_timeout`; the process has ended.
        """
        self._start_call()
        self._read(LENGTHS.size)
        header_bytes, content_bytes = LENGTHS.unpack_from(self._received)
        if header_bytes > MAX_HEADER_BYTES or content_bytes > min(most, _MAX_CONTENT_BYTES):
            raise self._taken_over()
        start = LENGTHS.size + header_bytes
        self._read(start + content_bytes)
        with memoryview(self._received) as view:
            header, content = bytes(view[LENGTHS.size : start]), bytes(view[start:][:content_bytes])
        del self._received[: start + content_bytes]
        self._unanswered, self._begun = self._unanswered - 1, time.monotonic()
        try:
            return unpacked(header, content)
        except ValueError:
            raise self._taken_over() from None

    def close(self) -> None:
        """End the process."""
        if self.is_alive:
            self._is_closed = True
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self, size: int) -> None:
        """Have at least `size` bytes of answers."""
        while len(self._received) < size:
            missing = size - len(self._received)
            try:
                content = os.read(self._from, min(max(missing, _READ_BYTES), _PIPE_BYTES))
            except BlockingIOError:
                self._wait(self._from, select.POLLIN)
                continue
            if not content:
                raise self._death()
            self._received += content

    def _start_call(self) -> None:
        # The process may have waited for this one before, but not from now on.
        self._called = max(self._begun, time.monotonic())

    def _wait(self, pipe: int, event: int) -> None:
        """Wait until a pipe can be used, or is closed."""
        # A process that takes or gives a byte now and then would always seem to go on.
        drips = time.monotonic() > self._called + self._limits.wall_s
        while drips or not _poll(pipe, event, _POLL_MS):
            # Another process that was forked meanwhile may hold the other end.
            if not self.is_alive:
                raise self._death()
            if drips or time.monotonic() > self._begun + self._limits.wall_s:
                self.close()
                raise FetchError("decoder_timeout")

    def _death(self) -> FetchError:
        try:
            status = self._process.wait(_POLL_MS / 1000)
        except subprocess.TimeoutExpired:
            # It has closed its output, and still runs.
            self.close()
            status = self._process.returncode
        logger.warning("the process that decodes pictures has ended with status %s", status)
        return FetchError(_DEATHS.get(status, "decoder_died"))

    def _taken_over(self) -> FetchError:
        """End a process whose answer breaks the rules: a picture has taken it over."""
        self.close()
        return FetchError("decoder_died")


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _VARIABLES or name.startswith(_PREFIXES)
    }
    paths: Sequence[str] = [path for path in sys.path if path]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # Otherwise the memory of each picture goes back to the system, and comes again for the next.
    memory = {"MALLOC_TRIM_THRESHOLD_": str(2**26), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    return kept | threads | memory | {"PYTHONPATH": os.pathsep.join(paths)}


def _poll(pipe: int, event: int, timeout_ms: int) -> list[tuple[int, int]]:
    """Wait until a pipe can be used or is closed; an empty list where it cannot in time."""
    poll = select.poll()
    poll.register(pipe, event)
    return poll.poll(timeout_ms)


def _enlarge(pipe: int) -> int:
    """Make a pipe hold many usual pictures where it can, and never block; return its bytes."""
    os.set_blocking(pipe, False)
    if sys.platform != "linux":
        return _LEAST_PIPE_BYTES
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        logger.debug("the pipe keeps its size")
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
