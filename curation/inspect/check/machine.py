"""What the machine has: Java, GPUs, cores, memory, disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from curation.engine.device import CPU, local_devices
from curation.engine.spark import ensure_java
from curation.errors import RecipeError

_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Machine:
    """What the machine has.

    Attributes:
        java: folder of the Java that Spark would use; empty if there is none.
        java_problem: why there is none, and what to do.
        gpus: devices, such as `cuda:0`.
        cores: number of cores that this process may use.
        memory: bytes of memory that this process may use.
        disk: free bytes where the store is or would be; None if it is not on this machine.
    """

    java: str
    java_problem: str
    gpus: tuple[str, ...]
    cores: int
    memory: int
    disk: int | None


def this_machine(store: str | None) -> Machine:
    """Return what this machine has.

    Args:
        store: where a run would write; None for the working directory.
    """
    java, problem = "", ""
    try:
        ensure_java()
        java = os.environ["JAVA_HOME"]
    except RecipeError as error:
        problem = str(error)
    gpus = tuple(device for device in local_devices() if device != CPU)
    return Machine(java, problem, gpus, _cores(), _memory(), _free(store or "."))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    """Return the memory of the machine, or of the container if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP.read_text(encoding="ascii").strip() if _CGROUP.is_file() else "max"
    return min(total, int(limit)) if limit.isdigit() else total


def _free(store: str) -> int | None:
    if "://" in store:
        return None
    path = Path(store).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
