"""Where a computation runs: the GPU that Spark gave a task, the GPUs of this machine, or its CPUs.

Which one it is changes how long work takes. What is exact is settled in float64 on every device, so
neither clusters nor neighbours depend on it.
"""

from __future__ import annotations

from pathlib import Path

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


CPU = "cpu"
DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of a GPU's driver: of NVIDIA, of it under WSL, of AMD."""


def task_device() -> str:
    """Return the device of the task that this runs in: the GPU that Spark gave it, or what is here."""
    from pyspark import TaskContext

    context = TaskContext.get()
    given = context.resources().get("gpu") if context else None
    if given is not None:
        return f"cuda:{given.addresses[0]}"
    return device_of_task(local_devices(), context.partitionId() if context else 0)


def device_of_task(here: tuple[str, ...], task: int) -> str:
    """Return the device of a task by its number, where Spark deals out none: all have their turn."""
    return here[task % len(here)]


def local_devices() -> tuple[str, ...]:
    """Return every GPU that this process sees, or `cpu`; CUDA_VISIBLE_DEVICES chooses among them."""
    if not any(Path(driver).exists() for driver in DRIVER_FILES):
        # torch takes seconds to import, and much of what asks here does without.
        return (CPU,)
    import torch

    if not torch.cuda.is_available():
        return (CPU,)
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
