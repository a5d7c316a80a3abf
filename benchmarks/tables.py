"""Tables that no stage wrote, and stages that run on them."""

from __future__ import annotations

from collections.abc import Sequence

from curation.engine.parallel import Parallel
from curation.engine.table import Table, open_table
from curation.flow import Step
from curation.runner.step import StepResult
from curation.runner.step import run_step as run_step_of_recipe
from curation.store.manifest import Committed, FragmentRecord, Manifest, RowCounts
from curation.store.run_log import StageSummary, latest_run, recorded_run
from curation.store.store import Store


def hand_made(
    table: str, version: str, records: Sequence[FragmentRecord], counts: RowCounts
) -> Manifest:
    """Return the manifest of a table that no stage wrote."""
    return Manifest(table, version, "hand", 1, 1, {}, {}, "now", tuple(records), counts, {})


def commit_manifest(store: Store, manifest: Manifest) -> None:
    """Write a version, and a finished run that has it: `open_table` opens the latest."""
    store.put_version(manifest)
    with recorded_run(store, "hand", "hand") as run:
        versions = {manifest.table: Committed(manifest.version, "")}
        run.add("hand", StageSummary(manifest.rows), versions, "hand")


def run_step(step: Step, store: Store, parallel: Parallel) -> StepResult:
    """Run a step on the latest version of each table that it reads, whoever made it."""
    tables: dict[str, Table] = {name: open_table(store, name) for name in step.inputs}
    return run_step_of_recipe(step, store, parallel, tables=tables)


def has_table(store: Store, table: str) -> bool:
    """Whether a finished run has a table."""
    return latest_run(store, table) is not None
