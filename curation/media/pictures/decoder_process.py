"""Decodes pictures of strangers in a process of their own, within limits that the kernel keeps.

A decoder that crashes, takes too much memory or does not end costs its picture, never the task. There
is one process for each picture that is decoded at the same time in this process. It starts with the
first picture, as a fresh interpreter that has none of this process's credentials, and ends with it.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from curation.errors import ContractError, CurationError, RecipeError, StoreError
from curation.media.pictures.decoder_messages import (
    LENGTHS,
    MAX_HEADER_BYTES,
    Header,
    Message,
    packed,
    unpacked,
)
from curation.media.pictures.decoder_worker import NO_MEMORY, READY, Limits
from curation.media.web.fetch_error import FetchError

logger = logging.getLogger(__name__)

_MODULE = "curation.media.pictures.decoder_worker"
_MAX_CONTENT_BYTES = 2**30
_PIPE_BYTES = 2**20
_READ_BYTES = 2**16
_POLL_MS = 1000
_DEATHS = {-signal.SIGXCPU: "decoder_timeout", NO_MEMORY: "decoder_memory"}
_ERRORS = {kind.__name__: kind for kind in (RecipeError, ContractError, StoreError)}
# No variable that holds a password or a key is passed on.
_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV", "NO_ALBUMENTATIONS_UPDATE")
_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MKL_", "COVERAGE_")


class DecoderProcess:
    """One process that answers messages with a function of a module.

    Args:
        function: a function at the top of a module; see `decoder_worker.Function`.
        limits: what one picture may use.

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
        self._to, self._from = _pipe(self._process.stdin), _pipe(self._process.stdout)
        try:
            started = self._receive(time.monotonic() + limits.start_s).header == READY
        except FetchError:
            started = False
        if not started:
            self.close()
            raise StoreError(
                "The process that decodes pictures does not start (exit status "
                f"{self._process.returncode}; its output stands above). Check that {sys.executable} "
                f"can run `python -m {_MODULE}`, and that the machine has 200 MB of free memory."
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

    def ask(self, request: Message) -> Message:
        """Return the answer to a message.

        Raises:
            FetchError: `decoder_died`, `decoder_timeout`, or what the answer gives.
            CurationError: the function refuses the recipe.
        """
        deadline = time.monotonic() + self._limits.wall_s
        self._send(request, deadline)
        answer = self._receive(deadline)
        if "failed" in answer.header:
            logger.info("a picture cannot be decoded: %s", answer.header.get("error"))
            raise FetchError(str(answer.header["failed"])[:64])
        if "refused" in answer.header:
            kind = _ERRORS.get(str(answer.header["refused"]), CurationError)
            raise kind(str(answer.header.get("message")))
        return answer

    def close(self) -> None:
        """End the process."""
        if self.is_alive:
            self._is_closed = True
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _send(self, request: Message, deadline: float) -> None:
        parts = [memoryview(part) for part in packed(request)]
        while parts:
            try:
                written = os.writev(self._to, parts)
            except BlockingIOError:
                self._wait(self._to, select.POLLOUT, deadline)
                continue
            except BrokenPipeError:
                raise self._death() from None
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][written:]

    def _receive(self, deadline: float) -> Message:
        """Return an answer; one that breaks the rules is from a process that a picture took over."""
        start = self._read(deadline)
        while len(start) < LENGTHS.size:
            start += self._read(deadline)
        header_bytes, content_bytes = LENGTHS.unpack_from(start)
        size = LENGTHS.size + header_bytes + content_bytes
        if (
            header_bytes > MAX_HEADER_BYTES
            or content_bytes > _MAX_CONTENT_BYTES
            or len(start) > size
        ):
            self.close()
            raise FetchError("decoder_died")
        content, read = bytearray(size), len(start)
        content[:read] = start
        view = memoryview(content)
        while read < size:
            read += self._read_into(view[read:], deadline)
        at = LENGTHS.size + header_bytes
        try:
            return unpacked(bytes(view[LENGTHS.size : at]), bytes(view[at:]))
        except ValueError:
            self.close()
            raise FetchError("decoder_died") from None

    def _read(self, deadline: float) -> bytes:
        start = bytearray(_READ_BYTES)
        return bytes(start[: self._read_into(memoryview(start), deadline)])

    def _read_into(self, view: memoryview, deadline: float) -> int:
        self._wait(self._from, select.POLLIN, deadline)
        count = os.readv(self._from, [view])
        if not count:
            raise self._death()
        return count

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        """Wait until a pipe can be used, or is closed."""
        poll = select.poll()
        poll.register(pipe, event)
        while not poll.poll(_POLL_MS):
            # Another process that was forked meanwhile may hold the other end.
            if not self.is_alive:
                raise self._death()
            if time.monotonic() > deadline:
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


def ask_decoder(
    function: Callable[..., Message], header: Header, content: bytes, limits: Limits | None = None
) -> Message:
    """Return what a function of a header and of a picture's bytes returns in another process.

    Where somebody else has killed the process, the picture is tried once more.

    Args:
        function: at the top of a module, so that another process can import it.
        header: values for it, as JSON has them.
        content: bytes of a file, not trusted.
        limits: what the picture may use.

    Raises:
        FetchError: `decoder_died` (it crashed), `decoder_timeout`, `decoder_memory`, or `error_` and
            the kind of an exception that nothing foresaw.
        CurationError: what the function raises, or the process does not start.
    """
    request, limits = Message(header, content), limits or Limits()
    try:
        return _ask(function, request, limits)
    except _KilledError:
        logger.warning("the process that decodes pictures was killed; the picture is tried again")
    try:
        return _ask(function, request, limits)
    except _KilledError as error:
        raise FetchError("decoder_died") from error


class _KilledError(Exception):
    """Somebody else has killed the process."""


def _ask(function: Callable[..., Message], request: Message, limits: Limits) -> Message:
    process = _IDLE.take(function, limits)
    try:
        return process.ask(request)
    except FetchError as error:
        if error.reason == "decoder_died" and process.was_killed:
            raise _KilledError from error
        raise
    except CurationError:
        raise
    except BaseException:
        # The answer is still to come, and would be taken for that of the next picture.
        process.close()
        raise
    finally:
        _IDLE.give_back(function, limits, process)


class _Idle:
    """The processes that wait for a picture. A thread takes one, and gives it back if it lives."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start without processes: those of a process that was forked belong to its parent."""
        self._lock = threading.Lock()
        self._processes: dict[Any, list[DecoderProcess]] = {}

    def take(self, function: Callable[..., Message], limits: Limits) -> DecoderProcess:
        """Return a process that waits, or a new one."""
        with self._lock:
            waiting = self._processes.get((function, limits), [])
            while waiting:
                process = waiting.pop()
                if process.is_alive:
                    return process
                process.close()
        return DecoderProcess(function, limits)

    def give_back(
        self, function: Callable[..., Message], limits: Limits, process: DecoderProcess
    ) -> None:
        """Let a process wait for the next picture."""
        if not process.is_alive:
            process.close()
            return
        with self._lock:
            self._processes.setdefault((function, limits), []).append(process)

    def close(self) -> None:
        """End all processes that wait."""
        with self._lock:
            for process in self._all():
                process.close()
            self._processes.clear()

    def _all(self) -> Iterator[DecoderProcess]:
        for processes in self._processes.values():
            yield from processes


_IDLE = _Idle()
atexit.register(_IDLE.close)
os.register_at_fork(after_in_child=_IDLE.forget)


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


def _pipe(stream: IO[bytes]) -> int:
    """Return the descriptor of a pipe that never blocks, and holds a usual picture where it can."""
    descriptor = stream.fileno()
    os.set_blocking(descriptor, False)
    if sys.platform == "linux":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            logger.debug("the pipe keeps its size")
    return descriptor
