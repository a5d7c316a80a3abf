"""Workers that are started only for work that is worth it; the rest is done in this process.

Starting Spark takes longer than all the work of a small change. How much work there is nobody knows
before, so it is measured: items run here, and go to workers once they have taken too long, or would at
the pace so far. What a function returns and writes is the same in either place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from curation.activity import Activity
from curation.engine.device import CPU, local_devices
from curation.engine.parallel import Parallel, ProgressCounter, R, ShuffleJob, T
from curation.engine.spark_progress import ShownProgress
from curation.errors import WorkerError
from curation.progress import ProgressBar

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

logger = logging.getLogger(__name__)

MAX_MESSAGES = 256
"""Messages of a shuffle that are kept in memory here; each has at most about a megabyte."""


def seconds_of_thread() -> float:
    """Return seconds by the clock, less those in which this thread waited for a core (on Linux).

    Where others use the machine, Spark takes longer to start too.
    """
    seconds = time.monotonic()
    with suppress(OSError, ValueError, IndexError):
        schedule = Path("/proc/thread-self/schedstat").read_text(encoding="ascii")
        return seconds - int(schedule.split()[1]) / 1e9
    return seconds


class StartedLater(Parallel, Protocol):
    """Workers that are started with their first work."""

    @property
    def started(self) -> bool:
        """Whether they have been started."""


class DriverFirst:
    """Does small work in this process, and leaves larger work to workers; see the module.

    Args:
        workers: for larger work. Once they have been started, they do everything.
        budget_s: seconds of work that are done here in all.
        activity: is told how far the work is.
        clock: seconds; read by the thread that calls.
        slots: number of tasks that the workers will run at once; None if only they know.
    """

    def __init__(
        self,
        workers: StartedLater,
        budget_s: float,
        activity: Activity,
        clock: Callable[[], float] = seconds_of_thread,
        slots: int | None = None,
    ) -> None:
        self._workers, self._left_s = workers, budget_s
        self._activity, self._clock, self._slots = activity, clock, slots

    @property
    def slots(self) -> int | None:
        """Number of items that run at the same time on the workers."""
        return self._slots or self._workers.slots

    @property
    def gpu_slots(self) -> int | None:
        """Number of items with a GPU each that run at the same time on the workers."""
        return self._slots or self._workers.gpu_slots

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        counter: ProgressCounter | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[R]:
        """Return `[function(item) for item in items]`. See `Parallel.map`."""
        results: list[R] = []
        if items and not isolated and self._may_work_here(gpu):
            results = self._map_here(label, function, items, counter)
        rest = items[len(results) :]
        if not rest:
            return results
        try:
            return results + self._workers.map(label, function, rest, counter, gpu, isolated)
        except WorkerError as error:
            number = None if error.task is None else error.task + len(results)
            raise WorkerError(*error.details, task=number) from error

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """Run a shuffle and return the result of each part. See `Parallel.exchange`."""
        messages = self._send_here(job) if self._may_work_here(job.gpu) else None
        if messages is None:
            return self._workers.exchange(job)
        began = self._clock()
        results = [job.receive(part, messages.pop(part)) for part in job.parts]
        self._left_s -= self._clock() - began
        return results

    def _may_work_here(self, gpu: bool) -> bool:
        if self._workers.started or self._left_s <= 0:
            return False
        # Each GPU belongs to one process at a time.
        return not gpu or local_devices() == (CPU,)

    def _map_here(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        counter: ProgressCounter | None,
    ) -> list[R]:
        """Return the results of the first items, or of all, as far as the time allows."""
        results: list[R] = []
        began, left_s, fastest_s = self._clock(), self._left_s, 0.0
        self._activity.begin_part(label, len(items))
        with ProgressBar(label, len(items)) as bar:
            shown = ShownProgress(bar, self._activity, counter)
            while len(results) < len(items):
                item_began = self._clock()
                # The first item imports what all of them need, so it says little of the others.
                to_come_s = fastest_s * (len(items) - len(results))
                if item_began - began + to_come_s > left_s:
                    break
                try:
                    results.append(function(items[len(results)]))
                except MemoryError:
                    logger.info("%s: too large for the process of the run", label)
                    self._left_s = 0
                    break
                item_s = self._clock() - item_began
                fastest_s = item_s if len(results) == 1 else min(fastest_s, item_s)
                if counter is not None:
                    counter.add(counter.summarise(results[-1]))
                shown.set_done(len(results), len(items))
        self._left_s -= self._clock() - began
        self._activity.end_part()
        return results

    def _send_here(self, job: ShuffleJob) -> dict[int, list[Any]] | None:
        """Return the messages of a shuffle by part; None if there are too many."""
        messages: dict[int, list[Any]] = {part: [] for part in job.parts}
        began, count = self._clock(), 0
        try:
            for item in job.items:
                for part, message in job.send(item):
                    count += 1
                    if count > MAX_MESSAGES or self._clock() - began > self._left_s:
                        return None
                    messages[part].append(message)
        finally:
            self._left_s -= self._clock() - began
        return messages
