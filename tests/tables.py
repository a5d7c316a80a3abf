"""Tables written by hand, so that a stage can be tested without those before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import vector_array
from curation.engine.contract import contract
from curation.engine.digest import digest
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import Manifest, sum_counts
from curation.engine.store import Store

PIECE = 50
BY_SEMANTIC: dict[str, Any] = {"near": {"encoder": "semantic"}}
"""The block `dedup` of a recipe over hand-made tables, which have no copy encoder."""
ROLES = {"web": "pool", "seeds": "seed", "test": "held_out"}


def commit_batches(
    store: Store,
    table: str,
    parts: dict[str, pa.RecordBatch],
    stats: dict[str, dict[str, Any]] | None = None,
    rows_per_file: int | None = None,
) -> None:
    """Commit a batch a fragment, with what was measured of it."""
    records = []
    for name, batch in parts.items():
        writer = FragmentWriter(store, f"tables/{table}/data", name, contract(table), rows_per_file)
        # In pieces, as stages give them.
        for start in range(0, max(batch.num_rows, 1), PIECE):
            writer.write(batch.slice(start, PIECE))
        records.append(writer.close(f"tables/{table}", name, (stats or {}).get(name, {})))
    counts = sum_counts(r.counts for r in records)
    version = digest([[r.content, r.stats] for r in records])
    store.commit(
        Manifest(table, version, "hand", 1, 1, {}, {}, {}, "now", tuple(records), counts, {})
    )


def commit(
    store: Store,
    table: str,
    parts: dict[str, list[dict[str, Any]]],
    rows_per_file: int | None = None,
) -> None:
    """Commit rows a fragment; keys that the table does not have are left out."""
    terms = contract(table)
    schema = terms.arrow_schema()
    commit_batches(
        store,
        table,
        {
            name: pa.RecordBatch.from_pylist(
                [{k: r[k] for k in r if k in terms.names} for r in rows], schema=schema
            )
            for name, rows in parts.items()
        },
        rows_per_file=rows_per_file,
    )


def commit_vectors(
    store: Store,
    parts: dict[str, tuple[np.ndarray, np.ndarray]],
    encoders: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Commit `images`, `scores` (none), `eligible` (every row) and `embeddings.semantic`.

    Fragments are named by their source, as in web-0; `encoders` are their encoders' identities.
    """
    rows = {}
    for name, (ids, _) in parts.items():
        source = name.split("-")[0]
        base = {"role": ROLES[source], "source": source, "status": "eligible"}
        rows[name] = [base | dict.fromkeys(("pair_id", "image_id"), i.decode()) for i in ids]
    commit(store, "eligible", rows)
    commit(store, "images", {n: [r | {"status": "ok"} for r in own] for n, own in rows.items()})
    none = {name: scores_batch([i.decode() for i in ids]) for name, (ids, _) in parts.items()}
    commit_batches(store, "scores", none)
    batches = {name: embedding_batch(*part) for name, part in parts.items()}
    stats = {name: {"encoder": identity} for name, identity in (encoders or {}).items()}
    commit_batches(store, "embeddings.semantic", batches, stats)


def commit_no_copies(store: Store, parts: dict[str, list[dict[str, Any]]]) -> None:
    """Commit `copies` of rows that all stand for themselves."""
    own = {
        name: [
            r
            | dict.fromkeys(("component_id", "representative_id"), r["image_id"])
            | {"representative_pair_id": r["pair_id"], "method": "representative"}
            for r in rows
            if r["image_id"]
        ]
        for name, rows in parts.items()
    }
    commit(store, "copies", own)


def scores_batch(pair_ids: list[str]) -> pa.RecordBatch:
    """Rows of `scores` without a score."""
    count = len(pair_ids)
    columns = {"phash": pa.nulls(count, pa.binary()), "pixel_id": pa.nulls(count, pa.string())}
    return pa.RecordBatch.from_pydict({"pair_id": pair_ids} | columns)


def embedding_batch(
    ids: np.ndarray, vectors: np.ndarray, valid: np.ndarray | None = None
) -> pa.RecordBatch:
    """Rows of `embeddings`; an all-zero vector stands for none unless `valid` says otherwise."""
    valid = vectors.any(axis=1) if valid is None else valid
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
