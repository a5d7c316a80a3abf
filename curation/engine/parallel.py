"""Workers: the protocol that stages use, and workers in this process, for tests of single stages.

Workers on Spark are in `spark_workers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from curation.activity import WorkCounts
from curation.progress import ProgressBar

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


T = TypeVar("T")
R = TypeVar("R")


class ShuffleJob(NamedTuple):
    """A shuffle: items send messages to parts, and each part computes a result from its messages.

    Attributes:
        label: shown while it runs.
        send: yields pairs (part, message) for an item, only for members of `parts`.
        items: what `send` is called with.
        receive: gets a part and all its messages, in any order, and returns its result.
        parts: the parts that are computed.
        gpu: each call of `receive` has a GPU to itself.
    """

    label: str
    send: Callable[[Any], Iterable[tuple[int, Any]]]
    items: Sequence[Any]
    receive: Callable[[int, list[Any]], Any]
    parts: Sequence[int]
    gpu: bool = False

    @property
    def task_count(self) -> int:
        """Number of tasks: one for each item and each part."""
        return len(self.items) + len(self.parts)


class ProgressCounter(Protocol):
    """Counts how far some work is, and describes it in one line."""

    def summarise(self, result: Any) -> Any:
        """Return a small part of a result; runs on a worker, when an item has ended."""

    def add(self, summary: Any) -> None:
        """Take in what `summarise` returned."""

    def counts(self) -> WorkCounts:
        """Return how far the work is; may read what running tasks wrote."""

    def describe(self, counts: WorkCounts) -> str:
        """Return the line; empty if nothing is to be shown."""


class Parallel(Protocol):
    """Workers that apply a function to items. The function and the items are sent to them by pickle.

    Attributes:
        slots: number of items that run at the same time; None where each unit is to be an item.
        gpu_slots: the same of items that each have a GPU to themselves, where the cluster has some.
    """

    @property
    def slots(self) -> int | None: ...

    @property
    def gpu_slots(self) -> int | None: ...

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        counter: ProgressCounter | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[R]:
        """Return `[function(item) for item in items]`.

        Args:
            label: shown while it runs.
            function: called on a worker, once for each item.
            items: what it is called with.
            counter: describes the progress; called from time to time while it runs.
            gpu: each call has a GPU to itself, where the cluster has some.
            isolated: no call is made in the process of the run, which a call may bring to its end.
        """
        ...

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """Run a shuffle and return the result of each part, in the order of `job.parts`."""
        ...


class InProcess:
    """Calls functions in this process, one item after another."""

    slots: int | None = None

    @property
    def gpu_slots(self) -> int | None:
        """Number of items that run at the same time: this process takes turns with its GPUs."""
        return self.slots

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        counter: ProgressCounter | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[R]:
        """Return `[function(item) for item in items]`; `gpu` and `isolated` make no difference."""
        with ProgressBar(label, len(items)) as progress:
            results = []
            for item in items:
                results.append(function(item))
                progress.set_done(len(results))
                if counter:
                    counter.add(counter.summarise(results[-1]))
                if counter and progress.shown:
                    progress.set_note(counter.describe(counter.counts()))
        return results

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """Run a shuffle and return the result of each part; all messages are in memory at once."""
        messages: dict[int, list[Any]] = {part: [] for part in job.parts}
        with ProgressBar(job.label, job.task_count) as progress:
            for done, item in enumerate(job.items, 1):
                for part, message in job.send(item):
                    messages[part].append(message)
                progress.set_done(done)
            results = []
            for part in job.parts:
                results.append(job.receive(part, messages.pop(part)))
                progress.set_done(len(job.items) + len(results))
        return results
