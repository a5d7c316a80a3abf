"""What the machine has: Java, GPUs, cores, memory, disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from curation.engine.device import CPU, local_devices
from curation.engine.java import ensure_java
from curation.engine.machine import usable_cores, usable_memory
from curation.errors import RecipeError


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
    return Machine(java, problem, gpus, usable_cores(), usable_memory(), _free(store or "."))


def _free(store: str) -> int | None:
    if "://" in store:
        return None
    path = Path(store).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
