"""Makes the facts of tables and runs from what the store has."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.cli.facts.files import DamagedFile
from curation.cli.facts.runs import RunSummary
from curation.cli.facts.tables import ShownTable

if TYPE_CHECKING:
    from curation.engine.table import Table
    from curation.runner.step import StepResult
    from curation.store.problem import Problem
    from curation.store.store import Store


def describe_table(
    table: Table, rows: Sequence[Mapping[str, Any]], folder: str | None
) -> ShownTable:
    """Return the facts of a version of a table.

    Args:
        table: the version.
        rows: its first rows.
        folder: by which other programs open it.
    """
    from curation.engine.contract import contract
    from curation.inspect.open_folder import duckdb_call

    manifest = table.manifest
    return ShownTable(
        table=manifest.table,
        grain=contract(manifest.table).grain,
        version=manifest.version,
        created=manifest.created,
        stage=manifest.stage,
        rows=manifest.rows,
        taken_down=table.withheld is not None,
        fragments=len(manifest.fragments),
        counts={role: dict(outcomes) for role, outcomes in manifest.counts.items()},
        stats=by_number(manifest.stats),
        libraries=dict(manifest.libraries),
        folder=folder,
        open_with=None if folder is None else duckdb_call(table, folder),
        sample=[{name: _plain(value) for name, value in row.items()} for row in rows],
    )


def by_number(value: Any) -> Any:
    """Return measurements; keys that begin with numbers are in the order of these, and not of texts."""
    if not isinstance(value, Mapping):
        return value
    return {key: by_number(value[key]) for key in sorted(value, key=_first_number)}


def _first_number(key: str) -> float:
    digits = re.match(r"\d+", key)
    return int(digits[0]) if digits else math.inf


def _plain(value: Any) -> Any:
    """Return a value of a row as JSON can hold it; bytes are counted, not copied."""
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


def describe_problems(problems: Sequence[Problem], store: Store) -> list[DamagedFile]:
    """Return the facts of damaged files of a store."""
    described = [asdict(each) | {"remedy": each.remedy(store.uri)} for each in problems]
    known = DamagedFile.model_fields
    return [DamagedFile.model_validate({n: d[n] for n in d if n in known}) for d in described]


def describe_run(
    recipe: str,
    results: Sequence[StepResult],
    store: Store,
    report: str | None,
    damaged: Sequence[Problem],
    log: Path | None,
) -> RunSummary:
    """Return the facts of a run.

    Args:
        recipe: name of the recipe.
        results: of its stages.
        store: where its tables are.
        report: path of the report within the store; None if there is none.
        damaged: files that were set aside before it.
        log: its log file; None if it could not be written.
    """
    from curation.cli.summary import summarise

    defaults: dict[str, Any] = {"shortfalls": {}, "dataset": None, "report": None}
    more = {
        "recipe": recipe,
        "store": store.uri,
        "up_to_date": all(result.up_to_date for result in results),
        "damaged": describe_problems(damaged, store),
        "log": None if log is None else str(log),
    }
    return RunSummary.model_validate(defaults | more | summarise(results, store, report))
