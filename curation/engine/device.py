"""Where a computation runs: on the GPU that Spark gave a task, on the GPUs of this machine, or on CPUs.

The device changes how long work takes, never its result: every decision is computed in float64 on every
device. Only the vectors of `embed` differ between devices, by rounding.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

CPU = "cpu"
DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files that a GPU driver creates: NVIDIA's, NVIDIA's under WSL, and AMD's."""


def task_device() -> str:
    """Return the device of the Spark task that calls it: `cuda:<number>` or `cpu`.

    It is the GPU that Spark assigned to the task. Where Spark assigns none, as in local mode, it is one
    of the machine's, by the number of the task's partition.
    """
    context = task_context()
    gpu = context.resources().get("gpu") if context else None
    if gpu is not None:
        return f"cuda:{gpu.addresses[0]}"
    return device_of_task(local_devices(), context.partitionId() if context else 0)


def task_context() -> Any:
    """Return the context of the Spark task that calls it; None outside of tasks."""
    # Its import takes long, and in a task it has been imported.
    pyspark = sys.modules.get("pyspark")
    return pyspark.TaskContext.get() if pyspark else None


def device_of_task(devices: tuple[str, ...], task: int) -> str:
    """Return the device of a task by its number, so that tasks share all devices evenly."""
    return devices[task % len(devices)]


def local_devices() -> tuple[str, ...]:
    """Return every GPU that this process sees, or `cpu`. CUDA_VISIBLE_DEVICES limits them."""
    if not any(Path(driver).exists() for driver in DRIVER_FILES):
        # torch takes seconds to import, and many callers do not need it otherwise.
        return (CPU,)
    import torch

    if not torch.cuda.is_available():
        return (CPU,)
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
