"""Cases: which fault happens to a run, at which moment, on which workers and store."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import NamedTuple

WORKERS = ("here", "spark", "standalone")
"""The workers of a run: its process, a local Spark with two, or a standalone cluster of two."""
DISK_FAULTS = ("full_disk", "flip", "remove")
"""Faults of a folder on disk."""
S3_FAULTS = ("kill_gateway", "kill_server")
"""Faults of an S3 server."""
SPARK_FAULTS = ("kill_jvm",)
CLUSTER_FAULTS = ("kill_executor", "kill_worker")
SLOW_FAULTS = ("kill_server",)
"""Faults after which runs wait for many seconds."""
SHARES = {"here": 0.75, "spark": 0.25}
"""How often seeds choose workers. A cluster takes long to start, so it is asked for by name."""
S3_SHARE = 0.2


class Case(NamedTuple):
    """One case.

    Attributes:
        seed: decides the others.
        fault: a key of `fault_hook.FAULTS`.
        stage: the stage in which it happens.
        number: after how many operations of the stage.
        workers: one of WORKERS.
        store: `disk` or `s3`.
    """

    seed: int
    fault: str
    stage: str
    number: int
    workers: str
    store: str

    def __str__(self) -> str:
        place = f"{self.stage}:{self.number}"
        return f"seed {self.seed}: {self.fault} at {place}, {self.workers}, {self.store}"


def case_of(
    seed: int,
    operations: Mapping[str, int],
    workers: str | None = None,
    without: Collection[str] = (),
) -> Case:
    """Return the case of a seed. Consecutive seeds go through the stages in turn.

    Args:
        seed: any number.
        operations: number of operations of each stage in a run without faults.
        workers: one of WORKERS, instead of the one that the seed decides.
        without: faults that do not happen.
    """
    rng = random.Random(seed)
    stages = list(operations)
    stage = stages[seed % len(stages)]
    chosen = rng.choices(list(SHARES), list(SHARES.values()))[0]
    workers = workers or chosen
    store = "s3" if rng.random() < S3_SHARE else "disk"
    fault = rng.choice([f for f in faults_of(workers, store) if f not in without])
    return Case(seed, fault, stage, rng.randint(1, operations[stage]), workers, store)


def faults_of(workers: str, store: str) -> list[str]:
    """Return the faults that can happen with some workers and a store."""
    faults = ["kill_run", "kill_process", "second_run"]
    faults += DISK_FAULTS if store == "disk" else S3_FAULTS
    faults += SPARK_FAULTS if workers != "here" else ()
    return faults + list(CLUSTER_FAULTS if workers == "standalone" else ())
