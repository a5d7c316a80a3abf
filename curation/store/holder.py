"""Who holds a lease: a process of a machine, and whether it still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class Holder:
    """A process.

    Attributes:
        host: name of the machine.
        pid: number of the process.
        boot: changes when the machine starts anew, and between containers; empty if it is unknown.
        process_start: tells a process from a later one with the same number; 0 if it is unknown.
        run: the run that the process belongs to.
    """

    host: str
    pid: int
    boot: str
    process_start: int
    run: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return asdict(self)

    @staticmethod
    def from_json(spec: Any) -> Holder | None:
        """Return the holder that `to_json` described, or None if it is not one."""
        try:
            return Holder(**spec)
        except TypeError:
            return None

    @property
    def has_ended(self) -> bool:
        """Whether the process was of this machine, and runs no more. Unknown is False."""
        if not self.boot or self.boot != _boot() or self.host != socket.gethostname():
            return False
        start = _process_start(self.pid)
        return start is not None and start != self.process_start

    def __str__(self) -> str:
        return f"run {self.run} (process {self.pid} on {self.host})"


def this_process(run: str) -> Holder:
    """Return this process as the holder of a lease."""
    pid = os.getpid()
    return Holder(socket.gethostname(), pid, _boot(), _process_start(pid) or 0, run)


@lru_cache(maxsize=1)
def _boot() -> str:
    """Return what is the same for all processes that see each other's numbers; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _process_start(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did.

    0 if there is no such process; None if it is hidden, as those of other users may be (`hidepid`).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if _exists(pid) else 0
    # The second field, the name in brackets, may hold anything.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def _exists(pid: int) -> bool:
    """Whether there is a process with a number, of whatever user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
