"""The current tables of a recipe: of its latest finished run, or of one that is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from curation.engine.table import Table, open_table
from curation.errors import Detail, StoreError
from curation.flow import run_fingerprint
from curation.recipe import load_recipe
from curation.runner.inputs import joint_lineage
from curation.store.commits import find_commit
from curation.store.manifest import Committed
from curation.store.run_log import find_run, read_runs
from curation.store.run_record import RunRecord
from curation.store.step_log import StepLog
from curation.store.store import Store

OF_PATHS = ("/", ".")
"""Characters that no name of a recipe has."""


@dataclass(frozen=True)
class Current:
    """The current tables of a recipe.

    Attributes:
        recipe: its name.
        run: the run that decides: the one that was named, or the latest finished one.
        runs: for each table the run whose version counts, the tables in order.
    """

    recipe: str
    run: RunRecord
    runs: Mapping[str, RunRecord]

    def version(self, table: str) -> str:
        """Return the current version of a table."""
        return self.runs[table].tables[table]


def find_current(store: Store, recipe: str | None = None, run: str | None = None) -> Current:
    """Return the current tables of a recipe.

    A run may have made some tables only. Those that the latest finished run does not have come from the
    latest earlier run of the recipe that has them.

    Args:
        store: where to look.
        recipe: name of a recipe, or the path of its file; then only runs with exactly its parameters
            count. The default is the one recipe of the store.
        run: a run, or the beginning of its name. Only its tables count then.

    Raises:
        StoreError: there is no such recipe or run, or several recipes and none is named.
        RecipeError: the file of the recipe is not valid.
    """
    if run is not None:
        record = find_run(store, run)
        if recipe is not None and not _wanted(recipe)(record):
            message = (
                f"Run {record.run} in {store.uri} is of recipe {record.recipe!r} (fingerprint "
                f"{record.fingerprint}), not of {recipe!r}"
            )
            fix = "Leave out the recipe, or name a run of it"
            raise StoreError(Detail(message, "recipe", recipe, fix=fix))
        return _current([record])
    records = list(read_runs(store))
    finished = [record for record in records if record.state == "finished"]
    if not finished:
        raise _no_finished_run(store, records)
    return _current(_runs_of(finished, recipe, store))


def _no_finished_run(store: Store, records: list[RunRecord]) -> StoreError:
    message = f"{store.uri} has no finished run"
    if not records:
        fix = "Check the path of the store, or run a recipe first (curation run RECIPE --store DIR)"
        return StoreError(Detail(message, fix=fix))
    latest = records[0]
    message += f". The latest one is {latest.run} of recipe {latest.recipe!r} ({latest.state})"
    fix = f"Name it (--run {latest.run}) to read the tables that it made"
    return StoreError(Detail(message, fix=fix))


def _runs_of(records: list[RunRecord], recipe: str | None, store: Store) -> list[RunRecord]:
    names = list(dict.fromkeys(record.recipe for record in records))
    if recipe is None:
        if len(names) > 1:
            message = (
                f"{store.uri} has runs of {len(names)} recipes, and none was named: "
                f"{_listed(names, records)}"
            )
            raise StoreError(Detail(message, "recipe", None, names, "Name one of them"))
        return records
    chosen = list(filter(_wanted(recipe), records))
    if not chosen:
        now = " as it is now" if _is_file(recipe) else ""
        message = (
            f"{store.uri} has no finished run of recipe {recipe!r}{now}. It has runs of: "
            f"{_listed(names, records)}"
        )
        raise StoreError(Detail(message, "recipe", recipe, names))
    return chosen


def _wanted(recipe: str) -> Callable[[RunRecord], bool]:
    """Return what chooses the runs of a recipe: by its name, or as its file is now.

    A file may have any ending, as JSON has; without one, its folder tells it from a name.
    """
    if not _is_file(recipe):
        return lambda record: record.recipe == recipe
    loaded = load_recipe(recipe)
    exactly = loaded.name, run_fingerprint(loaded)
    return lambda record: (record.recipe, record.fingerprint) == exactly


def _is_file(recipe: str) -> bool:
    return any(character in recipe for character in OF_PATHS)


def _listed(names: Iterable[str], records: list[RunRecord]) -> str:
    latest = {name: next(r.started for r in records if r.recipe == name) for name in names}
    return ", ".join(f"{name} (latest run {started})" for name, started in latest.items())


def _current(records: list[RunRecord]) -> Current:
    runs: dict[str, RunRecord] = {}
    for record in records:
        for table in record.tables:
            runs.setdefault(table, record)
    return Current(records[0].recipe, records[0], dict(sorted(runs.items())))


def _committed(store: Store, table: str, record: RunRecord) -> Committed:
    """Return what was committed for a table of a run; without its lineage, if no log says it."""
    entries = StepLog(store, record.steps[table]).entries() if table in record.steps else []
    commit = find_commit(entries, table, record.tables)
    return Committed(record.tables[table], "") if commit is None else commit[1]


class CurrentTables(Mapping[str, Table]):
    """The current tables of a recipe by name, each opened when it is first read.

    Args:
        store: where they are.
        recipe: see `find_current`.
        run: see `find_current`.

    Raises:
        StoreError: see `find_current`.
    """

    def __init__(self, store: Store, recipe: str | None = None, run: str | None = None) -> None:
        self.store = store
        self._current = find_current(store, recipe, run)
        self._opened: dict[str, Table] = {}
        self._commits: dict[str, Committed] = {}
        self._takedowns = self.store.takedowns()

    def look_again(self) -> bool:
        """Open the tables again if rows were taken down since; return whether that is so."""
        before, self._takedowns = self._takedowns, self.store.takedowns(reload=True)
        if before == self._takedowns:
            return False
        self._opened.clear()
        return True

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self._current.recipe

    @property
    def run(self) -> str:
        """Name of the run that decides which versions are current."""
        return self._current.run.run

    def version(self, name: str) -> str:
        """Return the current version of a table."""
        return self._current.version(self.check(name))

    def run_of(self, name: str) -> str:
        """Return the name of the run whose version of a table counts."""
        return self._current.runs[self.check(name)].run

    def step_of(self, name: str) -> str | None:
        """Return the fingerprint of the step that wrote a table; None if the run has none."""
        record = self._current.runs.get(name)
        return None if record is None else record.steps.get(name)

    def check_together(self, reader: str, names: Iterable[str]) -> None:
        """Check that some tables belong together, before they are read row by row.

        Tables of one run do. Those of earlier runs may have been made from other versions.

        Args:
            reader: who reads them, for the message.
            names: of the tables.

        Raises:
            StoreError: two of them were made from different versions of a third one.
        """
        runs = {name: self._current.runs[name] for name in names}
        if len({record.run for record in runs.values()}) < 2:
            return
        for name in runs.keys() - self._commits.keys():
            self._commits[name] = _committed(self.store, name, runs[name])
        try:
            joint_lineage(reader, {name: self._commits[name] for name in runs})
        except StoreError as error:
            fix = f"{error.details[0].fix}, or name a run (--run) that has all tables"
            raise StoreError(*(replace(detail, fix=fix) for detail in error.details)) from error

    def check(self, name: str) -> str:
        """Return the name of a table.

        Raises:
            StoreError: there is no such table; the message lists those that there are.
        """
        if name in self._current.runs:
            return name
        message = f"Recipe {self.recipe!r} in {self.store.uri} has no table {name!r}"
        fix = "`curation plan RECIPE` shows the stage that writes each"
        raise StoreError(Detail(message, "", name, list(self), fix))

    def __getitem__(self, name: str) -> Table:
        if name not in self._opened:
            self._opened[name] = open_table(self.store, name, self.version(name))
        return self._opened[name]

    def __contains__(self, name: object) -> bool:
        return name in self._current.runs

    def __iter__(self) -> Iterator[str]:
        return iter(self._current.runs)

    def __len__(self) -> int:
        return len(self._current.runs)
