"""Work spread over processes: the same protocol on Spark and, for tests of one stage, in process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from curation.engine.progress import ProgressBar

if TYPE_CHECKING:
    pass

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class ShuffleJob(NamedTuple):
    """Items that send to parts: `send` gives (part, what it gets) for an item, of `parts` alone, and
    `receive` is given a part and all that it got, in no order; with `gpu` it has one to itself."""

    label: str
    send: Callable[[Any], Iterable[tuple[int, Any]]]
    items: Sequence[Any]
    receive: Callable[[int, list[Any]], Any]
    parts: Sequence[int]
    gpu: bool = False

    @property
    def task_count(self) -> int:
        """How many tasks it takes."""
        return len(self.items) + len(self.parts)


class Parallel(Protocol):
    """Applies a function to items, somewhere, and returns the results in the order of the items."""

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        note: Callable[[], str] | None = None,
        gpu: bool = False,
    ) -> list[R]:
        """Return `[function(i) for i in items]`; `label` and `note` are shown while it runs.

        With `gpu`, each item has a GPU to itself where there are some.
        """
        ...

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """Return what each part makes of all that it is sent."""
        ...


class InProcess:
    """One item after the other, here."""

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        note: Callable[[], str] | None = None,
        gpu: bool = False,
    ) -> list[R]:
        """Return `[function(i) for i in items]`."""
        with ProgressBar(label, len(items)) as progress:
            results = []
            for item in items:
                results.append(function(item))
                progress.set_done(len(results))
                if note and progress.shown:
                    progress.set_note(note())
        return results

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """Return what each part makes of all that it is sent, which is held at once."""
        boxes: dict[int, list[Any]] = {part: [] for part in job.parts}
        with ProgressBar(job.label, job.task_count) as progress:
            for done, item in enumerate(job.items, 1):
                for part, sent in job.send(item):
                    boxes[part].append(sent)
                progress.set_done(done)
            results = []
            for part in job.parts:
                results.append(job.receive(part, boxes.pop(part)))
                progress.set_done(len(job.items) + len(results))
        return results
