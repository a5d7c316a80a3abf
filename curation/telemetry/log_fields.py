"""The run and the stage, in each line of JSON logs."""

from __future__ import annotations

from collections.abc import Sequence

from curation.flow import Step
from curation.logs import set_run_fields
from curation.runner.observer import RunObserver
from curation.runner.step import StepResult
from curation.store.run_record import RunRecord


class LogFields(RunObserver):
    """Has each log line in JSON say which run and which stage it belongs to."""

    def __init__(self) -> None:
        self._run: dict[str, str] = {}

    def run_started(self, run: RunRecord, steps: Sequence[Step]) -> None:
        """See `RunObserver.run_started`."""
        self._run = {"run": run.run, "recipe": run.recipe}
        set_run_fields(self._run)

    def step_started(self, step: Step) -> None:
        """See `RunObserver.step_started`."""
        set_run_fields(self._run | {"stage": step.name})

    def step_ended(self, result: StepResult) -> None:
        """See `RunObserver.step_ended`."""
        set_run_fields(self._run)
