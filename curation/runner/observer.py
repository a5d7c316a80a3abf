"""Those who watch a run from within its process: metrics, lineage events, fields of log lines."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from curation.errors import reason_of_end
from curation.store.run_record import RunRecord

if TYPE_CHECKING:
    from curation.flow import Step
    from curation.runner.step import StepResult

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


class RunObserver:
    """Is told what a run does. Each method does nothing unless it is overridden.

    Methods are called in the thread that runs the steps. What they raise ends the run.
    """

    def run_started(self, run: RunRecord, steps: Sequence[Step]) -> None:
        """Take in that a run begins.

        Args:
            run: its record.
            steps: the steps that it will run, in order.
        """

    def step_started(self, step: Step) -> None:
        """Take in that a step begins."""

    def step_ended(self, result: StepResult) -> None:
        """Take in that the step that began last has ended well."""

    def run_ended(self, error: BaseException | None) -> None:
        """Take in that the run has ended.

        Args:
            error: why it failed; None if it did not.
        """


class Observers(RunObserver):
    """Passes on to several observers what a run does; as a context, also how it ended.

    Args:
        observers: in the order in which they are told.
    """

    def __init__(self, observers: Sequence[RunObserver]) -> None:
        self._observers = observers
        self._has_started = False

    def run_started(self, run: RunRecord, steps: Sequence[Step]) -> None:
        """See `RunObserver.run_started`."""
        self._has_started = True
        for observer in self._observers:
            observer.run_started(run, steps)

    def step_started(self, step: Step) -> None:
        """See `RunObserver.step_started`."""
        for observer in self._observers:
            observer.step_started(step)

    def step_ended(self, result: StepResult) -> None:
        """See `RunObserver.step_ended`."""
        for observer in self._observers:
            observer.step_ended(result)

    def run_ended(self, error: BaseException | None) -> None:
        """See `RunObserver.run_ended`."""
        for observer in self._observers:
            observer.run_ended(error)

    def __enter__(self) -> Observers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._has_started:
            self.run_ended(None if error is None else reason_of_end(error))
