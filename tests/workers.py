"""Workers in this process that record what they compute, and may stop a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from curation.engine.parallel import InProcess, ProgressCounter, ShuffleJob
from curation.errors import CurationError

T = TypeVar("T")
R = TypeVar("R")


class Recording(InProcess):
    """Records what is computed.

    Attributes:
        mapped: label of each item of a map.
        exchanged: label of each exchange.
        parts: number of parts that each exchange computes.
    """

    def __init__(self) -> None:
        self.mapped: list[str] = []
        self.exchanged: list[str] = []
        self.parts: list[int] = []

    @contextmanager
    def during(self, label: str, items: Sequence[Any]) -> Iterator[None]:
        """Surround each map and each exchange; subclasses override it."""
        yield

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        counter: ProgressCounter | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[R]:
        """See `Parallel.map`."""
        with self.during(label, items):
            self.mapped += [label] * len(items)
            return super().map(label, function, items, counter, gpu, isolated)

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """See `Parallel.exchange`."""
        with self.during(job.label, job.items):
            self.exchanged.append(job.label)
            self.parts.append(len(job.parts))
            return super().exchange(job)


class StopsBefore(Recording):
    """Stops a run before a map or an exchange.

    Args:
        label: of it; None stops no run.
    """

    def __init__(self, label: str | None = None) -> None:
        super().__init__()
        self._label = label

    @contextmanager
    def during(self, label: str, items: Sequence[Any]) -> Iterator[None]:
        """Stop before the label."""
        if label == self._label:
            raise CurationError("stopped")
        yield


class StopsWithin(Recording):
    """Stops a run in an exchange, after half of its parts.

    Args:
        label: of the exchange.
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self._label = label

    def exchange(self, job: ShuffleJob) -> list[Any]:
        """See `Parallel.exchange`."""
        if job.label != self._label:
            return super().exchange(job)
        second_half = job.parts[len(job.parts) // 2 :]

        def receive(part: int, messages: list[Any]) -> Any:
            if part in second_half:
                raise CurationError("stopped")
            return job.receive(part, messages)

        return super().exchange(job._replace(receive=receive))
