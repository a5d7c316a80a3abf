"""Tables written by hand, so that a stage can be tested without those before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curation.fragment import FragmentWriter
from curation.records import Manifest, add_books
from curation.store import Store
from curation.table import contract
from curation.vectors import vector_array


def commit_batches(store: Store, table: str, parts: dict[str, pa.RecordBatch]) -> None:
    """Commit a batch a fragment."""
    records = []
    for name, batch in parts.items():
        writer = FragmentWriter(store, f"tables/{table}/data", name, contract(table))
        writer.write(batch)
        records.append(writer.close(f"tables/{table}", name, {}))
    books = add_books(r.books for r in records)
    store.commit(Manifest(table, "v", "hand", 1, 1, {}, {}, {}, "now", tuple(records), books, {}))


def commit(store: Store, table: str, parts: dict[str, list[dict[str, Any]]]) -> None:
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
    )


def embedding_batch(ids: np.ndarray, vectors: np.ndarray) -> pa.RecordBatch:
    """Rows of `embeddings`; an all-zero vector stands for none."""
    valid = vectors.any(axis=1)
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
