"""The rows of a run of the recipe of `examples/small_run.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curation.engine.table import open_table
from curation.store.store import Store

TABLES = ("pairs", "images", "scores", "embeddings.semantic", "copies", "claims", "dataset")


def rows_of(store: Store, tables: Sequence[str] = TABLES) -> dict[str, list[dict[str, Any]]]:
    """The rows of tables, in an order that does not depend on fragments."""
    rows = {table: open_table(store, table).read().to_pylist() for table in tables}
    for row in rows.get("dataset", []):
        # It names the recipe, which says how rows are cut.
        del row["run"]
    return {table: sorted(rows[table], key=repr) for table in tables}
