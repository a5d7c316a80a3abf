"""The process that decodes pictures of strangers: `python -m curation.media.pictures.decoder_worker`.

It gets a function, answers one message after the other, and ends when its input does. The kernel holds
it to its limits: a picture that needs more memory gets none, one that needs more time ends the process.
`decoder_process` starts it.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from curation.errors import CurationError
from curation.media.pictures.decoder_messages import LENGTHS, Header, Message, packed, unpacked

Function = Callable[[Header, bytes], Message]
"""Gets a header and the bytes of a picture, and returns the answer."""
READY: Header = {"ready": True}
NO_MEMORY = 3
"""Exit status of a process that cannot even hold a file."""
_STEP_BYTES = 2**25


class Limits(NamedTuple):
    """What one picture may use.

    Attributes:
        memory_bytes: on top of what the process has after its start, and of the file itself.
        processor_s: seconds of processor, whole.
        wall_s: seconds until the process is killed; more, since the machine may be busy.
        start_s: seconds until the process must be ready.
    """

    memory_bytes: int = 2**30
    processor_s: int = 20
    wall_s: float = 60.0
    start_s: float = 120.0


def main(function: str, memory_bytes: str, processor_s: str) -> None:
    """Answer messages until there are no more.

    Args:
        function: module and name, with a colon between them.
        memory_bytes: see Limits.
        processor_s: see Limits.
    """
    requests, answers = sys.stdin.buffer, os.dup(1)
    module, _, name = function.partition(":")
    answer: Function = getattr(import_module(module), name)
    _use_one_core()
    _send(answers, Message(READY, b""))
    # From here on, what libraries print is about pictures of strangers.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    _forbid_files_and_cores()
    limiter = _Limiter(_data_bytes() + int(memory_bytes), int(processor_s))
    try:
        while lengths := requests.read(LENGTHS.size):
            header_bytes, content_bytes = LENGTHS.unpack(lengths)
            limiter.start(header_bytes + content_bytes)
            request = unpacked(requests.read(header_bytes), requests.read(content_bytes))
            _send(answers, _answered(answer, request))
            del request
    except MemoryError:
        sys.exit(NO_MEMORY)
    _forbid_files_and_cores(forbid=False)


def _answered(answer: Function, request: Message) -> Message:
    """Return the answer, or what went wrong: one picture ends nothing."""
    try:
        message = answer(*request)
        if message.header.get("reason") == "decoder_memory":
            # The frames of the error's trace may still hold the picture.
            gc.collect()
        return message
    except CurationError as error:
        return Message({"refused": type(error).__name__, "message": str(error)}, b"")
    except MemoryError:
        return Message({"failed": "decoder_memory"}, b"")
    except Exception as error:
        return Message({"failed": f"error_{type(error).__name__}", "error": repr(error)[:200]}, b"")


def _send(answers: int, message: Message) -> None:
    """Write a message to a pipe at once, so that the process that waits for it is woken once."""
    head, content = packed(message)
    written = os.writev(answers, (head, content))
    rest = memoryview(head + content)[written:] if written < len(head) + len(content) else b""
    while rest:
        rest = rest[os.write(answers, rest) :]


def _use_one_core() -> None:
    """Keep libraries from starting a thread for each core: a task has one, and stacks are memory."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "PIL.Image" in sys.modules:
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _forbid_files_and_cores(forbid: bool = True) -> None:
    """Forbid to write files, or allow it again for tools that measure a process at its end."""
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (0 if forbid else most, most))


class _Limiter:
    """Sets the limits of each picture; only Linux limits memory.

    Args:
        memory_bytes: for any picture.
        processor_s: for any picture.
    """

    def __init__(self, memory_bytes: int, processor_s: int) -> None:
        self._memory_bytes, self._processor_s = memory_bytes, processor_s
        self._set: dict[int, int] = {}

    def start(self, size: int) -> None:
        """Set the limits of a picture whose file has a size in bytes."""
        steps = -(-2 * size // _STEP_BYTES)
        self._limit(resource.RLIMIT_DATA, self._memory_bytes + steps * _STEP_BYTES)
        self._limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + self._processor_s)

    def _limit(self, kind: int, value: int) -> None:
        if self._set.get(kind) == value:
            return
        self._set[kind] = value
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if most == -1 else min(value, most), most))


def _data_bytes() -> int:
    """Return the size of the private writable memory of this process, which RLIMIT_DATA limits."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData")]
    return sizes[0] if sizes else 0


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
