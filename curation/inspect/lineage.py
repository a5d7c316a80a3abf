"""Finds the tables that a dataset was made from, in the versions that were read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from curation.engine.table import Table, open_table, refuse_withheld
from curation.errors import StoreError
from curation.flow import plan, run_fingerprint
from curation.media.encoders.params import EMBEDDINGS
from curation.recipe import Recipe
from curation.runner.inputs import open_inputs
from curation.store.commits import find_commit, last_commit
from curation.store.manifest import Committed
from curation.store.run_log import find_run, latest_run, read_runs
from curation.store.run_record import RunRecord
from curation.store.step_log import StepLog
from curation.store.store import DATASET, Store


@dataclass(frozen=True)
class Lineage:
    """The tables of one run by name."""

    tables: dict[str, Table]

    def __getitem__(self, name: str) -> Table:
        return self.tables[name]

    @property
    def embeddings(self) -> dict[str, Table]:
        """The tables of vectors by the name of the encoder."""
        return EMBEDDINGS.members(self.tables)


def table_behind(dataset: Table, name: str) -> Table:
    """Return a table that a dataset was made from.

    The same dataset may have been made from several versions of it, of which `curation gc` keeps those
    of the runs that it keeps. So the latest run that has the dataset decides, before what was read when
    the dataset was written first.

    Raises:
        StoreError: the table no longer exists.
    """
    version = dataset.manifest.version
    for record in read_runs(dataset.store):
        if record.tables.get(DATASET) == version and name in record.tables:
            return open_table(dataset.store, name, record.tables[name])
    return ancestry(dataset)[name]


def ancestry(dataset: Table) -> Lineage:
    """Return a dataset and the tables that it was made from, in the versions that were read.

    Raises:
        StoreError: one of these tables no longer exists.
    """
    tables = {DATASET: dataset}
    waiting = [dataset]
    while waiting:
        for name, version in sorted(waiting.pop().manifest.reads.items()):
            if name not in tables:
                tables[name] = open_table(dataset.store, name, version)
                waiting.append(tables[name])
    return Lineage(tables)


def trace(recipe: Recipe, store: Store, run: str | None = None) -> Lineage:
    """Return the dataset of a recipe and all tables that it was made from.

    Args:
        recipe: the recipe.
        store: where its runs are.
        run: one of its runs, or the beginning of its name. The default is the latest that finished.

    Raises:
        StoreError: the recipe has no finished run, the run is of another recipe, or a table no longer
            exists or holds what was taken down.
    """
    fingerprint = run_fingerprint(recipe)
    record = find_run(store, run) if run else latest_run(store, DATASET, fingerprint, recipe.name)
    if record is None or record.fingerprint != fingerprint or DATASET not in record.tables:
        problem = f"Run {run} is not one that" if run else "No run that finished"
        raise StoreError(
            f"{problem} made a dataset of recipe {recipe.name!r} (fingerprint {fingerprint}) "
            f"in {store.uri}",
            fix=(
                "Run the recipe first (curation run RECIPE --store DIR). `curation runs` lists "
                "the runs"
            ),
        )
    versions = _versions_of(record, recipe, store)
    tables = {name: open_table(store, name, version) for name, version in versions.items()}
    refuse_withheld(tables)
    return Lineage(tables)


def _versions_of(record: RunRecord, recipe: Recipe, store: Store) -> dict[str, str]:
    """Return the versions of all tables of a run: the dataset, what it was made from, and the others.

    A run of some stages alone records some tables. The commit of its dataset names those that this was
    made from, and the commits of other steps count that were made from the same.

    Raises:
        StoreError: the logs of the steps do not say so any more.
    """
    versions = dict(record.tables)
    wanted = [(step, str(table)) for step in reversed(plan(recipe)) for table in step.tables]
    if all(table in versions for _, table in wanted):
        return versions
    for step, table in wanted:
        if table == DATASET or table not in versions:
            commit = find_commit(StepLog(store, step.fingerprint).entries(), table, versions)
            if commit is not None:
                versions = {**commit[1].lineage, table: commit[1].version, **versions}
    missing = sorted({table for _, table in wanted} - versions.keys())
    if missing:
        raise StoreError(
            f"Run {record.run} in {store.uri} made a dataset, and nothing says any more from which "
            f"versions of {', '.join(missing)}",
            fix="Run the whole recipe again",
        )
    return versions


def finished_table(recipe: Recipe, store: Store, name: str) -> Table | None:
    """Return a table as the latest finished run has it that ran, or used, the step of a recipe for it.

    Several recipes may share the step. None if no finished run has a table of that step.
    """
    step = next(step for step in plan(recipe) if name in step.tables)
    for record in read_runs(store):
        if record.state == "finished" and record.steps.get(name) == step.fingerprint:
            return open_table(store, name, record.tables[name])
    return None


def recipe_tables(recipe: Recipe, store: Store, names: Collection[str]) -> dict[str, Table]:
    """Return the tables with the given names that the steps of a recipe committed last.

    Raises:
        StoreError: the recipe has not made one of them, or they were made from different versions of
            another table.
    """
    tables: dict[str, Committed] = {}
    for step in plan(recipe):
        wanted = [table for table in step.tables if table in names]
        committed = last_commit(StepLog(store, step.fingerprint)) if wanted else {}
        for table in wanted:
            if table not in committed:
                raise StoreError(
                    f"The recipe {recipe.name!r} as it is now has not made table {table!r} in "
                    f"{store.uri}",
                    fix=f"Run it first (curation run RECIPE --until {step.name} --store DIR)",
                )
            tables[table] = committed[table]
    return dict(open_inputs(f"Recipe {recipe.name!r}", tables, store).tables)
