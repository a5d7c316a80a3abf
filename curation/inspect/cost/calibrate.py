"""Measures the rates of this machine for cost estimates; it takes about half a minute."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

from curation.engine.machine import usable_cores, usable_memory
from curation.errors import StoreError
from curation.inspect.cost import core_rates
from curation.inspect.cost.core_rates import multiply, nearest_on, per_second
from curation.inspect.cost.rates import Rates

MOST_CORES = 8
"""Cores that are measured at most."""
MEMORY_OF_CORE = 2**31
"""Bytes of memory that a process has to measure its core; it takes a little more than half of them."""
SECONDS = 1.5
"""Shortest time for which each rate is measured."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def calibrate(seconds: float | None = None) -> Rates:
    """Measure what one core of this machine does in a second, and one GPU if torch sees one.

    Several cores are measured side by side: they share caches, memory, and where they are hardware
    threads also units, so a core that works alone is up to twice as fast.

    Args:
        seconds: shortest time for which each rate is measured; None takes SECONDS.

    Raises:
        StoreError: a process that measures a core fails.
    """
    seconds = SECONDS if seconds is None else seconds
    of_cores = _measure_cores(measured_cores(usable_cores(), usable_memory()), seconds)
    mean = {name: sum(rates[name] for rates in of_cores) / len(of_cores) for name in of_cores[0]}
    gpu_rates, gpu = _measure_gpu(seconds)
    return Rates(
        measured_on=f"{platform.node()}, {platform.machine()}{gpu}",
        **{name: float(f"{rate:.4g}") for name, rate in (mean | gpu_rates).items()},
    )


def measured_cores(cores: int, memory: int) -> int:
    """Return how many cores are measured side by side.

    Args:
        cores: of this machine.
        memory: of this machine, in bytes.
    """
    return max(1, min(cores, MOST_CORES, memory // MEMORY_OF_CORE))


def _measure_cores(cores: int, seconds: float) -> list[dict[str, float]]:
    """Return the rates of some cores, each measured in a process of its own at the same time.

    These processes do not import the main module of the caller, as those of `multiprocessing` do: a
    script would begin again in each of them.
    """
    command = [sys.executable, "-P", "-m", core_rates.__name__, str(seconds)]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": paths}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(cores)
    ]
    outputs = [process.communicate()[0] for process in processes]
    for process in processes:
        if process.returncode:
            raise StoreError(
                f"A process that measures a core has ended with exit status {process.returncode} "
                "(its output stands above)",
                fix=(
                    f"Check that {sys.executable} can run `python -m {core_rates.__name__} 0.1`, and "
                    f"that the machine has {cores * MEMORY_OF_CORE / 2**30:g} GiB of free memory"
                ),
            )
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _measure_gpu(seconds: float) -> tuple[dict[str, float], str]:
    """Return the rates of the GPU of this machine, and its name after a comma, if it has one."""
    import torch

    if not torch.cuda.is_available():
        return {}, ""
    work = {
        "gpu_gflop": lambda: multiply("cuda", 8192),
        "gpu_product_gflop": nearest_on("cuda", 2**16, 2**15, 1024),
    }
    rates = {name: per_second(function, seconds) for name, function in work.items()}
    return rates, f", {torch.cuda.get_device_name()}"
