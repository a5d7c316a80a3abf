"""Watches whether a cluster gives a run its executors, and says what is missing where it does not.

Spark waits for executors without end, and logs so where a run does not show it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from curation.errors import Detail, RecipeError, StartError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""Seconds without enough executors after which a run says so."""
REPEAT_S = 300.0
"""Seconds between two such messages."""
CONNECT_S = 5.0
STANDALONE = "spark://"
_STATE = "org.apache.spark.deploy.DeployMessages$"
_WHERE = {
    "yarn": "See `yarn application -status` and the page of the ResourceManager.",
    "k8s": "See `kubectl get pods` and `kubectl describe pod`.",
}


class Offer(NamedTuple):
    """What a worker of a standalone cluster has; memory in MiB."""

    host: str
    cores: int
    memory: int


def check_master(master: str) -> None:
    """Check that a master of a standalone cluster answers.

    Args:
        master: its URL; with several masters, one of them must answer. Other URLs pass.

    Raises:
        RecipeError: it is no URL of one.
        StartError: none answers.
    """
    if not master.startswith(STANDALONE):
        return
    problems = []
    for place in master.removeprefix(STANDALONE).split(","):
        host, _, port = place.rpartition(":")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            message = f"{master!r} is no address of a Spark master"
            raise RecipeError(Detail(message, "master", master, fix="Write spark://HOST:PORT"))
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
            return
        except OSError as error:
            problems.append(f"{place}: {error.strerror or error}")
    raise StartError(
        f"No Spark master answers at {master} ({'; '.join(problems)})",
        fix=(
            "Start the cluster (`make cluster` starts one on this machine), or correct `master` "
            "of the cluster file"
        ),
    )


@contextmanager
def announced_start(master: str, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Say within a context that starts Spark that it takes long, and what may be the reason."""
    place = master or "the address given to spark-submit"
    reason = (
        "This machine is busy, or its disk is slow."
        if master.startswith("local")
        else f"Either this machine is busy, or the cluster at {place} does not accept the run: on a "
        "standalone cluster, runs and daemons need the same secret and the same version of Spark; on "
        "others, the queue may be full."
    )
    message = "Spark has not started for %.0f s. %s"
    timer = threading.Timer(patience_s, logger.warning, (message, patience_s, reason))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class ExecutorWatch:
    """Says that a cluster gives fewer executors than a run waits for.

    Args:
        context: of the session.
        warn: shows a message.
        clock: seconds.
        patience_s: seconds without enough executors after which it says so.
    """

    def __init__(
        self,
        context: Any,
        warn: Callable[[str], None] = logger.warning,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._context, self._warn, self._clock = context, warn, clock
        self._patience_s = patience_s
        self._wanted = _wanted_executors(context.getConf())
        self._next = clock() + patience_s
        self._short = False

    def check(self) -> None:
        """Look at the executors, and say so once too few are there for too long."""
        count = executor_count(self._context)
        now = self._clock()
        if count >= self._wanted:
            if self._short:
                self._warn(f"{count} executors have started. The run goes on.")
            self._short, self._next = False, now + self._patience_s
        elif now >= self._next:
            self._short, self._next = True, now + REPEAT_S
            self._warn(self._message(count))

    def _message(self, count: int) -> str:
        conf, master = self._context.getConf(), str(self._context.master)
        cores = conf.get("spark.executor.cores", "all") or "all"
        memory = needed_memory(self._context)
        started = "No executor has started" if not count else f"Only {count} executors have started"
        asked = (
            f"{started} for {self._patience_s:.0f} s. The run asks {master} for {self._wanted} or "
            f"more, each with {cores} cores and {memory:,} MiB (spark.executor.cores; "
            "spark.executor.memory)."
        )
        return f"{asked} {self._offered(master, cores, memory)} The run waits; Ctrl-C ends it."

    def _offered(self, master: str, cores: str, memory: int) -> str:
        if not master.startswith(STANDALONE):
            kind = master.partition(":")[0]
            return f"{_WHERE.get(kind, '')} Ask for less, or wait until others have ended.".strip()
        try:
            offers, others = ask_master(self._context, master)
        except Exception as error:
            # Spark's own interface, which another version may not have.
            logger.debug("The offers of the master cannot be read: %s", error)
            return "What the master offers is not known. Ask for less, or add workers."
        return advice(offers, others, 1 if cores == "all" else int(cores), memory)


def advice(offers: list[Offer], others: int, cores: int, memory: int) -> str:
    """Return what the workers of a standalone cluster have, and what to change.

    Args:
        offers: of its living workers.
        others: number of other applications on the cluster.
        cores: that each executor asks for.
        memory: that each executor asks for, in MiB.
    """
    if not offers:
        return "The master has no worker that lives. Start workers, or see their logs."
    listed = "; ".join(f"{o.host}: {o.cores} cores, {o.memory:,} MiB" for o in offers[:8])
    text = f"The master has {len(offers)} workers ({listed}) and {others} other applications."
    if any(o.cores >= cores and o.memory >= memory for o in offers):
        if others:
            return (
                f"{text} These may hold the cores and the memory: wait, end them, or add workers."
            )
        return f"{text} Ask for fewer executors, or see the logs of the workers."
    most_cores, most_memory = max(o.cores for o in offers), max(o.memory for o in offers)
    changes = []
    if cores > most_cores:
        changes.append(f"spark.executor.cores to {most_cores} or less")
    if memory > most_memory:
        changes.append(f"spark.executor.memory to {most_memory}m or less")
    change = " and ".join(changes) or "spark.executor.cores or spark.executor.memory lower"
    return f"{text} No worker can hold such an executor: set {change}, or add larger workers."


def executor_count(context: Any) -> int:
    """Return the number of executors that a session has."""
    # The driver is one of them.
    return int(context._jsc.sc().getExecutorMemoryStatus().size()) - 1


def needed_memory(context: Any) -> int:
    """Return the memory of an executor in MiB, as a run asks for it."""
    return int(context._jsc.sc().executorMemory())


def ask_master(context: Any, master: str) -> tuple[list[Offer], int]:
    """Return what the living workers of a standalone cluster have, and how many others run there."""
    jvm = context._jvm
    java_class = jvm.java.lang.Class.forName
    # The class itself cannot be asked for its methods: libraries of some of them are missing.
    field = java_class("org.apache.spark.SparkEnv").getDeclaredField("rpcEnv")
    field.setAccessible(True)
    first = master.partition(",")[0]
    address = jvm.org.apache.spark.rpc.RpcAddress.fromSparkURL(first)
    endpoint = field.get(context._jsc.sc().env()).setupEndpointRef(address, "Master")
    request = java_class(f"{_STATE}RequestMasterState$").getField("MODULE$").get(None)
    tags = java_class("scala.reflect.ClassTag$").getField("MODULE$").get(None)
    answer = endpoint.askSync(request, tags.apply(java_class(f"{_STATE}MasterStateResponse")))
    offers = [
        Offer(worker.host(), worker.cores(), worker.memory())
        for worker in answer.workers()
        if worker.state().toString() == "ALIVE"
    ]
    return offers, len(answer.activeApps()) - 1


def _wanted_executors(conf: Any) -> int:
    """Return the number of executors without which a run says that some are missing."""
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        return max(1, int(conf.get("spark.dynamicAllocation.minExecutors", "1")))
    return max(1, int(conf.get("spark.executor.instances", "1")))
