"""The tables that a step reads: those that its recipe made, and none that do not belong together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from curation.engine.table import Table, open_table, refuse_withheld
from curation.errors import DamagedFileError, Detail, StoreError
from curation.flow import Step
from curation.store.checksums import sha256_of
from curation.store.commits import last_commit
from curation.store.manifest import Committed
from curation.store.run_log import Run
from curation.store.step_log import StepLog
from curation.store.store import Store

logger = logging.getLogger(__name__)

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class Inputs:
    """The tables that a step reads.

    Attributes:
        tables: by name.
        lineage: version of each of them, and of each table that they were made from.
    """

    tables: Mapping[str, Table]
    lineage: Mapping[str, str]


def find_inputs(step: Step, store: Store, run: Run) -> Inputs:
    """Return the tables that a step reads, as its recipe made them.

    A step of this run made them, or they are those that the same step of an earlier run committed.

    Raises:
        StoreError: one was not made yet, or they were made from different versions of another table.
    """
    committed: dict[str, Committed] = {}
    for name in step.inputs:
        writer = step.writers[name]
        table = run.table(name, writer) or last_commit(StepLog(store, writer)).get(name)
        if table is None:
            raise StoreError(
                Detail(
                    f"Stage {step.name!r} reads table {name!r}, which recipe {step.recipe!r} as it is "
                    f"now has not made yet in the store {store.uri}",
                    step.name,
                    fix="Run the stages before it first: leave out --only and --from, or start with an "
                    "earlier stage",
                )
            )
        run.use({name: table}, writer)
        committed[name] = table
    return open_inputs(step.name, committed, store)


def open_inputs(reader: str, committed: Mapping[str, Committed], store: Store) -> Inputs:
    """Open tables, and check that no two of them were made from different versions of a third one.

    Args:
        reader: who reads them, for the message.
        committed: the tables by name.
        store: where they are.

    Raises:
        StoreError: the message names the tables. Or one holds what was taken down.
    """
    lineage = joint_lineage(reader, committed)
    tables = {name: open_table(store, name, table.version) for name, table in committed.items()}
    refuse_withheld(tables)
    return Inputs(tables, lineage)


def joint_lineage(reader: str, committed: Mapping[str, Committed]) -> dict[str, str]:
    """Return the version of each of some tables, and of each table that they were made from.

    Args:
        reader: who reads them, for the message.
        committed: the tables by name.

    Raises:
        StoreError: two of them were made from different versions of a third one.
    """
    lineage: dict[str, str] = {}
    reached_by: dict[str, str] = {}
    for name, table in committed.items():
        for ancestor, version in {**table.lineage, name: table.version}.items():
            if lineage.setdefault(ancestor, version) != version:
                raise StoreError(
                    f"{reader} would mix two versions of table {ancestor!r}: "
                    f"{reached_by[ancestor]!r} was made from version "
                    f"{lineage[ancestor][:12]}, and {name!r} from version {version[:12]}",
                    fix=f"Run the recipe from the stage after {ancestor!r} on (--from)",
                )
            reached_by.setdefault(ancestor, name)
    return lineage


def set_aside_damaged(error: DamagedFileError, store: Store) -> None:
    """Set a file aside that could not be read, if its bytes are not those that were written."""
    sha256 = None
    # A file whose bytes nobody can read now may be whole.
    with suppress(OSError):
        sha256 = sha256_of(store.storage, error.path)
    if sha256 is not None and sha256 != error.sha256:
        logger.warning("%s was set aside as %s", error.path, store.set_aside(error.path))
