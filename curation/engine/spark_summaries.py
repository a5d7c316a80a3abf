"""Sends summaries of finished tasks to a progress counter in the driver, while other tasks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from curation.engine.parallel import ProgressCounter
from curation.errors import CurationError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


class SummaryAdder:
    """Adds the summaries of workers to a counter, in the driver; an AccumulatorParam of Spark."""

    def __init__(self, counter: ProgressCounter) -> None:
        self._counter: ProgressCounter | None = counter

    def zero(self, value: Any) -> list[Any]:
        """Return no summaries: what a worker starts with."""
        return []

    def addInPlace(self, value: Any, summaries: list[Any]) -> Any:
        """Collect summaries on a worker; take them in where the counter is."""
        if self._counter is None:
            return value + summaries
        for summary in summaries:
            self._counter.add(summary)
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {"_counter": None}


class SendSummary:
    """A function that sends a summary of each result to the driver; runs on a worker."""

    def __init__(
        self, function: Callable[[Any], Any], summarise: Callable[[Any], Any], summaries: Any
    ) -> None:
        self._function, self._summarise, self._summaries = function, summarise, summaries

    def __call__(self, item: Any) -> Any:
        result = self._function(item)
        if not isinstance(result, CurationError):
            self._summaries.add([self._summarise(result)])
        return result
