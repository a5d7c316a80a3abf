"""Runs the steps of a plan, for the command line, spark-submit jobs and Airflow alike.

Everything that can be checked early is checked before any work (`curation/runner/preflight.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from curation.engine.cluster import Cluster
from curation.engine.params_base import input_files
from curation.engine.spark_workers import spark_workers
from curation.errors import TakenDownError
from curation.flow import Step, plan, run_fingerprint
from curation.plugins import files_of
from curation.recipe import Recipe
from curation.runner.observer import Observers, RunObserver
from curation.runner.preflight import check_encoders, check_inputs, check_store
from curation.runner.step import StepResult, planned_steps, run_step
from curation.stages.fetch.packages import check_packages
from curation.stages.fetch.params import FetchStep
from curation.store.problem import Problem
from curation.store.run_log import Recompute, recorded_run, refreshed
from curation.store.step_log import StepLog, Waiting
from curation.store.store import Store
from curation.store.verification import verify_store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """How a run goes.

    Attributes:
        waiting: what to do while another run works on one of the steps.
        recompute: what is computed again although nothing changed.
        observers: are told what the run does.
    """

    waiting: Waiting = field(default_factory=Waiting)
    recompute: Recompute = field(default_factory=Recompute)
    observers: Sequence[RunObserver] = ()


DEFAULT_OPTIONS = RunOptions()


def verify_inputs(steps: Sequence[Step], store: Store) -> list[Problem]:
    """Set damaged files aside that some steps would read or reuse, so that they are computed anew.

    Checked are the committed versions of the tables that the steps read or write, and the work tables
    of their stages.

    Returns:
        What was wrong.
    """
    writers = {table: step.fingerprint for step in steps for table in step.tables}
    for step in steps:
        writers |= {table: step.writers[table] for table in step.inputs}
    versions = {}
    for table, fingerprint in writers.items():
        committed = StepLog(store, fingerprint).latest().tables.get(table)
        if committed is not None:
            versions[str(table)] = committed.version
    work = set(store.storage.folders("work")) & {step.name for step in steps}
    return verify_store(store, [*versions, *(f"work/{name}" for name in work)], True, versions)


def run_steps(
    steps: Sequence[Step],
    recipe: Recipe,
    store: Store,
    cluster: Cluster,
    options: RunOptions = DEFAULT_OPTIONS,
) -> list[StepResult]:
    """Check the inputs of a recipe, then bring the tables of some steps up to date, in order.

    Args:
        steps: steps of the recipe's plan.
        recipe: the recipe.
        store: where tables are.
        cluster: where tasks run.
        options: how the run goes.

    Raises:
        BoundsError: more rows failed than the recipe allows.
        ExpectationError: the dataset is not what the recipe expects.
        RecipeError: an input file, a package or a model is missing, or is not the one that the recipe
            names.
        StoreError: the store cannot be written; see also `run_step`.
        ContractError: see `run_step`.
    """
    check_inputs(recipe)
    for step in (step for step in steps if step.name == "fetch"):
        check_packages(step.params_as(FetchStep))
    check_store(recipe, store)
    check_encoders(steps, store)
    names = {step.name for step in steps}
    try:
        return _run(steps, recipe, store, cluster, options, names)
    except TakenDownError as error:
        logger.warning("%s. The run begins again without these rows.", error.details[0].message)
    # Also the steps before these: their tables have the rows.
    whole = plan(recipe, until=steps[-1].name)
    return _run(whole, recipe, store, cluster, options, names)


def _run(
    steps: Sequence[Step],
    recipe: Recipe,
    store: Store,
    cluster: Cluster,
    options: RunOptions,
    selected: Collection[str],
) -> list[StepResult]:
    """Bring the tables of some steps up to date, in order; see `run_steps`.

    `options.recompute` holds for the `selected` names of steps alone: others are not downloaded again.
    """
    results = []
    gpu, files = any(step.stage.gpu for step in steps), files_of(recipe.plugins)
    inputs = [path for step in steps for _, path in input_files(step.params)]
    with (
        Observers(options.observers) as observers,
        recorded_run(store, recipe.name, run_fingerprint(recipe), planned_steps(steps)) as run,
        refreshed(run, options.waiting.clock),
        spark_workers(recipe.name, cluster, gpu, files, inputs, run.activity) as workers,
    ):
        observers.run_started(run.record, steps)
        for step in steps:
            run.recompute = options.recompute if step.name in selected else Recompute()
            observers.step_started(step)
            results.append(run_step(step, store, workers, run, options.waiting))
            observers.step_ended(results[-1])
    return results
