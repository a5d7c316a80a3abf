"""Tables with many rows that retrieve reads, made column by column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.engine.contract import contract
from curation.store.store import Store

from ..tables import commit_batches

ROWS_PER_FRAGMENT = 50_000
CLUSTERS = 1_000
MATCHES_PER_SEED = 4


def ids_of(count: int, seed: int) -> Any:
    """Random ids, (count,), dtype S32."""
    rng = np.random.default_rng(seed)
    return np.frombuffer(rng.bytes(16 * count).hex().encode(), "S32")


def commit_many(store: Store, rows: int) -> int:
    """Commit a pool, a seed set of a twentieth of its size, and matches; return rows and matches."""
    rng = np.random.default_rng(0)
    pool, seeds = ids_of(rows, 1), ids_of(rows // 20, 2)
    parts = {
        f"web-{start:09d}": (pool[start : start + ROWS_PER_FRAGMENT], "pool", "web")
        for start in range(0, rows, ROWS_PER_FRAGMENT)
    } | {"cats-0": (seeds, "seed", "cats")}
    tables: dict[str, dict[str, pa.RecordBatch]] = {"eligible": {}, "assignments": {}, "images": {}}
    for name, (ids, role, source) in parts.items():
        texts = {"role": role, "source": source, "status": "eligible"}
        columns = {n: pa.array([text] * len(ids)) for n, text in texts.items()}
        columns |= {"pair_id": from_ids(ids), "image_id": from_ids(ids)}
        columns["cluster_id"] = pa.array(rng.integers(0, CLUSTERS, len(ids), dtype=np.int32))
        columns["similarity"] = pa.array(rng.random(len(ids), dtype=np.float32))
        for table in ("eligible", "assignments"):
            tables[table][name] = _batch(table, columns, len(ids))
        tables["images"][name] = _batch("images", {}, 0)
    for table, batches in tables.items():
        commit_batches(store, table, batches)
    count = len(seeds) * MATCHES_PER_SEED
    similarity = -np.sort(-rng.random((len(seeds), MATCHES_PER_SEED), dtype=np.float32))
    matches = {
        "seed_set": pa.array(["cats"] * count),
        "seed_image_id": from_ids(np.repeat(seeds, MATCHES_PER_SEED)),
        "image_id": from_ids(pool[rng.integers(0, rows, count)]),
        "similarity": pa.array(similarity.ravel()),
        "rank": pa.array(np.tile(np.arange(1, MATCHES_PER_SEED + 1, dtype=np.int32), len(seeds))),
    }
    commit_batches(store, "matches", {"all": _batch("matches", matches, count)})
    level = {
        "level": pa.array(np.zeros(CLUSTERS, np.int32)),
        "cluster_id": pa.array(np.arange(CLUSTERS, dtype=np.int32)),
        "vector": pa.array([bytes(8)] * CLUSTERS, pa.binary(8)),
        "training_count": pa.array(np.ones(CLUSTERS, np.int64)),
        "parent_id": pa.nulls(CLUSTERS, pa.int32()),
    }
    commit_batches(store, "centroids", {"level-0": pa.RecordBatch.from_pydict(level)})
    return rows + len(seeds) + count


def _batch(table: str, columns: dict[str, pa.Array], count: int) -> pa.RecordBatch:
    schema = contract(table).arrow_schema()
    arrays = [
        columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
