"""Functions that run in place of a decoder, and do what a picture should never make one do."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from curation.errors import RecipeError
from curation.media.pictures.decoder_messages import LENGTHS, MAX_HEADER_BYTES, Header, Message


def act(header: Header, content: bytes) -> Message:
    """Do what `header` says, or return the content."""
    _ACTS.get(str(header.get("act")), _nothing)()
    return Message({"pid": os.getpid(), "secret": os.environ.get("AWS_SECRET_ACCESS_KEY")}, content)


def grow(header: Header, content: bytes) -> Message:
    """Return an answer of the size that `header` says."""
    return Message({}, bytes(int(header["size"])))


def store_picture(header: Header, content: bytes) -> Message:
    """Store a picture, but do what its first bytes say."""
    if content[:7] == b"POISON ":
        _ACTS[content[7:].decode()]()
    from curation.stages.fetch import picture

    return picture.store_picture(header, content)


def lie(header: Header, content: bytes) -> Message:
    """Answer what the content says after `LIE `, as JSON; store other pictures."""
    if content[:4] == b"LIE ":
        return Message(
            json.loads(content[4:]), b"\xff\xd8\xff" if b"stored" in content else b"GIF89a"
        )
    from curation.stages.fetch import picture

    return picture.store_picture(header, content)


def refuse_words(header: Header, content: bytes) -> Message:
    """Answer as if the recipe could not be followed, for a file that is no JPEG."""
    if not content.startswith(b"\xff\xd8"):
        raise RecipeError("fetch.faces.weights: no network")
    return Message({"pid": os.getpid()}, content)


def _nothing() -> None:
    return


def _segfault() -> None:
    ctypes.string_at(0)


def _loop() -> None:
    while True:
        pass


def _sleep() -> None:
    time.sleep(60)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _python_memory() -> None:
    kept = []
    while True:
        kept.append(bytearray(2**24))


def _library_memory() -> None:
    """Take memory until there is none, and use it, as a library does that does not check."""
    libc: Any = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        at = libc.malloc(ctypes.c_size_t(2**24))
        ctypes.memset(at or 0, 1, 2**24)


def _noise() -> None:
    os.write(1, b"\xff" * 1000)
    print("noise", flush=True)
    os.write(2, b"\x1b]0;title\x07")


def _exit() -> None:
    os._exit(0)


def _error() -> None:
    raise KeyError("nobody foresaw this")


def _recursion() -> None:
    _recursion()


def _refuse() -> None:
    raise RecipeError("fetch.faces.weights: no network")


def _files() -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"x")


def _close() -> None:
    """Close every descriptor, and go on."""
    os.closerange(0, 64)
    time.sleep(60)


def _system_exit() -> None:
    sys.exit("bye")


def _answers() -> int:
    """Return the pipe for answers: the last one that can be written."""
    return max(fd for fd in range(3, 64) if _is_pipe_to_write(fd))


def _is_pipe_to_write(descriptor: int) -> bool:
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        return is_pipe and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    except OSError:
        return False


def _for_ten_seconds(step: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        step()
        time.sleep(0.05)
    os._exit(0)


def _drip() -> None:
    """Give a header of the largest size, byte by byte."""
    answers = _answers()
    os.write(answers, LENGTHS.pack(MAX_HEADER_BYTES, 0))
    _for_ten_seconds(lambda: os.write(answers, b" "))


def _claim() -> None:
    """Begin a header that is larger than any."""
    os.write(_answers(), LENGTHS.pack(MAX_HEADER_BYTES + 1, 0))
    time.sleep(60)


def _sip() -> None:
    """Answer, and take what comes next a page at a time."""
    os.write(_answers(), LENGTHS.pack(2, 0) + b"{}")
    _for_ten_seconds(lambda: os.read(0, 4096))


def _flood() -> None:
    """Give an answer of a gibibyte."""
    answers = _answers()
    os.write(answers, LENGTHS.pack(2, 2**30) + b"{}")
    while True:
        os.write(answers, bytes(2**16))


_ACTS = {
    "segfault": _segfault,
    "abort": os.abort,
    "kill": _kill,
    "exit": _exit,
    "sys.exit": _system_exit,
    "loop": _loop,
    "sleep": _sleep,
    "memory": _python_memory,
    "library memory": _library_memory,
    "noise": _noise,
    "error": _error,
    "recursion": _recursion,
    "refuse": _refuse,
    "files": _files,
    "close": _close,
    "drip": _drip,
    "claim": _claim,
    "sip": _sip,
    "flood": _flood,
}
