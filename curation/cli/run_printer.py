"""What a run tells people, on the command line and in the logs of jobs alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curation.cli.first_recipe_commands import print_warnings
from curation.cli.outcomes import OutcomePrinter
from curation.engine.cluster import is_local
from curation.flow import Step, run_fingerprint
from curation.recipe import Recipe
from curation.recipe.pixels import left_out
from curation.terminal import Terminal

if TYPE_CHECKING:
    from curation.runner.step import StepResult
    from curation.store.store import Store


class RunPrinter(OutcomePrinter):
    """Prints what a recipe leaves out, what steps did, and once what wastes or surprises.

    Args:
        recipe: the recipe that runs.
        store: where it runs.
        console: what prints.
        master: where Spark works, as in a cluster file; None for this machine.
        with_rows: whether the line with the rows of each step is printed, or only what follows it.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        console: Terminal,
        master: str | None = None,
        with_rows: bool = True,
    ) -> None:
        super().__init__(console, with_rows)
        self._recipe, self._store, self._master = recipe, store, master

    def before(self, steps: Sequence[Step]) -> None:
        """Print what is left out and, in the first run of a recipe, what is known before the work."""
        from curation.inspect.check.check import warnings_before_run
        from curation.store.run_log import read_runs

        for sentence in left_out(self._recipe):
            self._console.print(sentence)
        fingerprint = run_fingerprint(self._recipe)
        is_first = all(record.fingerprint != fingerprint for record in read_runs(self._store))
        if is_first and any(step.name == "ingest" for step in steps):
            is_here = self._master is None or is_local(self._master)
            print_warnings(warnings_before_run(self._recipe, is_here), self._console)

    def step_ended(self, result: StepResult) -> None:
        """Print the result of one step, and thresholds that had no effect or left nothing."""
        super().step_ended(result)
        if result.step.name == "select" and not result.up_to_date:
            from curation.inspect.check.after_select import idle_after_select

            idle = list(idle_after_select(self._recipe, result.manifests[0]))
            print_warnings(idle, self._console)
