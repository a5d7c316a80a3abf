"""Tables for tests: written by hand, or without values, so that a stage runs without those before
it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.tables import commit_manifest, hand_made, has_table, run_step
from curation.algorithms.arrays.vectors import vector_array
from curation.engine.contract import Column, Contract, contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.table_name import Family
from curation.flow import STAGES
from curation.store.digest import digest
from curation.store.manifest import sum_counts
from curation.store.store import Store

ROWS_PER_BATCH = 50
VECTOR_BYTES = 8
BY_SEMANTIC: dict[str, Any] = {"near": {"encoder": "semantic"}}
"""The block `dedup` of a recipe over tables that have no copy encoder."""
ROLES = {"web": "pool", "seeds": "seed", "test": "held_out"}

__all__ = [
    "commit",
    "commit_batches",
    "commit_empty_inputs",
    "commit_manifest",
    "commit_vectors",
    "embedding_batch",
    "hand_made",
    "has_table",
    "run_step",
    "scores_batch",
]

Rows = Mapping[str, list[dict[str, Any]]]
"""Rows by fragment."""
VectorParts = dict[str, tuple[np.ndarray, np.ndarray]]
"""Ids and vectors by fragment; a fragment is named after its source, as `web-0`."""


def commit_batches(
    store: Store,
    table: str,
    batches: dict[str, pa.RecordBatch],
    stats: dict[str, dict[str, Any]] | None = None,
    rows_per_file: int | None = None,
) -> None:
    """Commit a table with one batch per fragment.

    Args:
        store: where to.
        table: name of the table.
        batches: by fragment.
        stats: measurements by fragment.
        rows_per_file: rows of a file, if they are limited.
    """
    records = []
    for name, batch in batches.items():
        writer = FragmentWriter(store, f"tables/{table}/data", name, contract(table), rows_per_file)
        # In several batches, as stages yield them.
        for start in range(0, max(batch.num_rows, 1), ROWS_PER_BATCH):
            writer.write(batch.slice(start, ROWS_PER_BATCH))
        records.append(writer.close(f"tables/{table}", name, (stats or {}).get(name, {})))
    counts = sum_counts(r.counts for r in records)
    key = digest([[r.content, r.stats] for r in records])
    commit_manifest(store, hand_made(table, key, records, counts))


def commit(store: Store, table: str, rows: Rows, rows_per_file: int | None = None) -> None:
    """Commit a table; keys of a row that are no columns of the table are left out."""
    table_contract = contract(table)
    schema = pa.schema([c.arrow_field(pa.binary(VECTOR_BYTES)) for c in table_contract.columns])
    batches = {
        name: pa.RecordBatch.from_pylist(
            [{key: row[key] for key in row if key in table_contract.names} for row in part],
            schema=schema,
        )
        for name, part in rows.items()
    }
    commit_batches(store, table, batches, rows_per_file=rows_per_file)


def commit_empty_inputs(
    store: Store, stages: Iterable[str], rows: Rows, member: str = "semantic"
) -> None:
    """Commit the tables that some stages read, that none of them writes, and that the store lacks.

    Each gets the fragments of `rows`. A table that is aligned with `images` has their rows, with the
    values of the columns that both have and without any others. Other tables have no rows.

    Args:
        store: where to.
        stages: names of the stages that the test runs.
        rows: by fragment; each row has at least `pair_id`.
        member: the member of each family of tables.
    """
    stages = list(stages)
    written = {STAGES[name].contract for name in stages}
    for read in (read for name in stages for read in STAGES[name].reads):
        place = read.table
        table = place.table(member) if isinstance(place, Family) else place
        if read.argument in written or has_table(store, table):
            continue
        aligned = contract(table).aligned
        commit(
            store,
            table,
            {
                name: [_row_without_values(contract(table), row) for row in part] if aligned else []
                for name, part in rows.items()
            },
        )


def _row_without_values(table: Contract, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a row that a table can hold, and defaults for required columns."""
    return {
        column.name: row[column.name] if _is_valid(column, row) else _default(column)
        for column in table.columns
        if _is_valid(column, row) or not column.nullable
    }


def _is_valid(column: Column, row: Mapping[str, Any]) -> bool:
    value = row.get(column.name)
    return value is not None and (not column.values or value in column.values)


def _default(column: Column) -> Any:
    if column.values:
        return column.values[0]
    if column.low is not None:
        return column.low
    return {"string": "", "bool": False}.get(str(column.type), 0)


def commit_vectors(
    store: Store,
    parts: VectorParts,
    encoders: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Commit images that all have a vector: `images`, `scores`, `eligible`, `embeddings.semantic`.

    Args:
        store: where to.
        parts: ids and vectors by fragment.
        encoders: identity of the encoder of each fragment.
    """
    rows = {}
    for name, (ids, _) in parts.items():
        source = name.split("-")[0]
        base = {"role": ROLES[source], "source": source, "status": "eligible"}
        rows[name] = [base | dict.fromkeys(("pair_id", "image_id"), i.decode()) for i in ids]
    commit(store, "eligible", rows)
    commit(
        store,
        "images",
        {n: [r | {"status": "ok"} for r in part_rows] for n, part_rows in rows.items()},
    )
    batches = {name: embedding_batch(*part) for name, part in parts.items()}
    stats = {name: {"encoder": identity} for name, identity in (encoders or {}).items()}
    commit_batches(store, "embeddings.semantic", batches, stats)
    commit(store, "scores", rows)


def scores_batch(pair_ids: list[str]) -> pa.RecordBatch:
    """Rows of `scores` without a score."""
    count = len(pair_ids)
    columns = {"phash": pa.nulls(count, pa.binary()), "pixel_id": pa.nulls(count, pa.string())}
    return pa.RecordBatch.from_pydict({"pair_id": pair_ids} | columns)


def embedding_batch(
    ids: np.ndarray, vectors: np.ndarray, valid: np.ndarray | None = None
) -> pa.RecordBatch:
    """Rows of `embeddings`.

    Args:
        ids: pair and image ids, (n,).
        vectors: (n, dim).
        valid: which rows have a vector, (n,); by default those whose vector is not all zero.
    """
    valid = np.asarray(vectors.any(axis=1)) if valid is None else valid
    names = ids.astype("U32")
    return pa.RecordBatch.from_arrays(
        [
            pa.array(names, pa.string()),
            pa.array(names, pa.string()),
            vector_array(vectors, valid),
            pa.array([None if v else "not_finite" for v in valid], pa.string()),
        ],
        names=["pair_id", "image_id", "vector", "reason"],
    )
