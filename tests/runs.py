"""Whole runs of recipes in this process."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from curation.engine.parallel import InProcess, Parallel
from curation.flow import plan, run_fingerprint
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step
from curation.store.run_log import Recompute, recorded_run
from curation.store.step_log import Waiting
from curation.store.store import Store


def run_recipe(
    spec: Mapping[str, Any],
    store: Store,
    parallel: Parallel | None = None,
    until: str | None = None,
    waiting: Waiting | None = None,
    recompute: Recompute | None = None,
) -> list[StepResult]:
    """Run a recipe as one run, as `curation run` does; return what each stage did."""
    recipe = parse_recipe(copy.deepcopy(dict(spec)))
    workers = parallel or InProcess()
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as run:
        run.recompute = recompute or Recompute()
        return [run_step(s, store, workers, run, waiting) for s in plan(recipe, until=until)]
