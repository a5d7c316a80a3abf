"""Whole runs of the recipe of `examples/small_run.py`, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curation.engine.parallel import InProcess, Parallel
from curation.engine.table import open_table
from curation.flow import plan, run_fingerprint
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step
from curation.store.run_log import recorded_run
from curation.store.store import Store

TABLES = ("pairs", "images", "scores", "embeddings.semantic", "copies", "claims", "dataset")


def run_recipe(
    spec: dict[str, Any],
    store: Store,
    parallel: Parallel | None = None,
    until: str | None = None,
) -> list[StepResult]:
    """Run a recipe, as `curation run` does."""
    recipe = parse_recipe(spec)
    workers = parallel or InProcess()
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as run:
        steps = plan(recipe, until=until) if until else plan(recipe)
        return [run_step(step, store, workers, run) for step in steps]


def rows_of(store: Store, tables: Sequence[str] = TABLES) -> dict[str, list[dict[str, Any]]]:
    """The rows of tables, in an order that does not depend on fragments."""
    rows = {table: open_table(store, table).read().to_pylist() for table in tables}
    for row in rows.get("dataset", []):
        # It names the recipe, which says how rows are cut.
        del row["run"]
    return {table: sorted(rows[table], key=repr) for table in tables}
