"""What the machine has: Java, GPUs, cores, memory, disk, and which precisions are slow."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from curation.engine.device import CPU, local_devices
from curation.engine.java import ensure_java
from curation.engine.machine import usable_cores, usable_memory
from curation.errors import RecipeError

if TYPE_CHECKING:
    import torch

LAYER_ROWS, LAYER_INPUTS, LAYER_OUTPUTS, ROUNDS = 1024, 192, 768, 3
"""The layer of a small vision transformer that is tried in each precision, and how often: the fastest
counts."""


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
        slow_precisions: how many times as long a layer of a model takes as in fp32, by precision of
            encoders, where it takes longer. Empty if there is a GPU.
    """

    java: str
    java_problem: str
    gpus: tuple[str, ...]
    cores: int
    memory: int
    disk: int | None
    slow_precisions: dict[str, float]


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
    slow = slow_precisions()
    return Machine(java, problem, gpus, usable_cores(), usable_memory(), _free(store or "."), slow)


def slow_precisions() -> dict[str, float]:
    """Return the attribute of `Machine` of this name."""
    if local_devices() != (CPU,):
        return {}
    from curation.media.encoders.encoder import PRECISIONS

    seconds = {name: _seconds_of_layer(dtype) for name, dtype in PRECISIONS.items()}
    ratios = {name: of_layer / seconds["fp32"] for name, of_layer in seconds.items()}
    return {name: round(ratio, 1) for name, ratio in ratios.items() if ratio > 1}


def _seconds_of_layer(dtype: torch.dtype) -> float:
    import torch

    layer = torch.nn.Linear(LAYER_INPUTS, LAYER_OUTPUTS).to(dtype)
    values, seconds = torch.ones(LAYER_ROWS, LAYER_INPUTS).to(dtype), float("inf")
    with torch.inference_mode():
        for _ in range(ROUNDS):
            start = time.perf_counter()
            layer(values)
            seconds = min(seconds, time.perf_counter() - start)
    return seconds


def _free(store: str) -> int | None:
    if "://" in store:
        return None
    path = Path(store).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
