"""Codebooks and lists between Parquet and numpy.

They are stored as arrays, not as FAISS's own files: loading those from an untrusted source is not safe.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.vectors import RowNumbers
from curation.algorithms.kmeans.backends.nearest import ClusterIds
from curation.algorithms.knn.exact import Base
from curation.algorithms.knn.ivf import Codebooks, Lists
from curation.engine.sorted_arrays import stable_order
from curation.engine.table import Table
from curation.store.fragment import Fragment


def codebooks_batch(codebooks: Codebooks) -> pa.RecordBatch:
    """Return codebooks as one batch of the table `codebooks`."""
    parts = [("coarse", 0, codebooks.coarse)]
    if codebooks.products is not None:
        parts += [("product", number, words) for number, words in enumerate(codebooks.products)]
    sizes = [len(words) for _, _, words in parts]
    vectors = [word.astype("<f4").tobytes() for _, _, words in parts for word in words]
    return pa.record_batch(
        {
            "kind": np.repeat([kind for kind, _, _ in parts], sizes),
            "subquantizer": np.repeat([n for _, n, _ in parts], sizes).astype(np.int32),
            "number": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
            "vector": pa.array(vectors, pa.binary()),
        }
    )


def read_codebooks(table: Table | Fragment) -> Codebooks | None:
    """Return the codebooks in a table `codebooks`, or None if it has no rows: the search is exact."""
    rows = table.read()
    if not len(rows):
        return None
    kinds = rows.column("kind").to_numpy(zero_copy_only=False)
    words = [np.frombuffer(v, "<f4") for v in rows.column("vector").to_pylist()]
    coarse = np.stack([w for w, k in zip(words, kinds, strict=True) if k == "coarse"])
    products = [w for w, k in zip(words, kinds, strict=True) if k == "product"]
    if not products:
        return Codebooks(coarse)
    subquantizers = int(rows.column("subquantizer").to_numpy().max()) + 1
    return Codebooks(coarse, np.stack(products).reshape(subquantizers, -1, products[0].shape[0]))


def index_of(table: Table) -> tuple[str, int] | None:
    """Return the kind of an index and its number of lists; None for exact search.

    Args:
        table: the table `codebooks`, of which no codebook is read.
    """
    kinds = table.read(["kind"]).column("kind")
    if not len(kinds):
        return None
    lists = int(pc.sum(pc.equal(kinds, "coarse")).as_py())
    return ("ivf_flat" if lists == len(kinds) else "ivf_pq"), lists


def lists_batch(rows: np.ndarray, ids: pa.Array, lists: Lists) -> pa.RecordBatch:
    """Return lists as rows of the table `lists`, sorted by list.

    Args:
        rows: row of each vector in its fragment, shape (n,).
        ids: image id of each vector, length n.
        lists: of the vectors.
    """
    order = stable_order(lists.list_ids)
    code = pa.nulls(len(rows), pa.binary())
    if lists.codes is not None:
        code = pa.array([c.tobytes() for c in lists.codes[order]], pa.binary())
    return pa.record_batch(
        {
            "list_id": lists.list_ids[order],
            "row": rows[order].astype(np.int32),
            "image_id": ids.take(pa.array(order)),
            "code": code,
        }
    )


def read_lists(fragment: Fragment, rows: np.ndarray, base: Base) -> Lists:
    """Return the lists of a base.

    Args:
        fragment: fragment of the table `lists`.
        rows: row in its fragment of each vector that the base was built from, shape (n,).
        base: built from those vectors.
    """
    table = fragment.read(["list_id", "row", "code"])
    entries = _entries(table.column("row").to_numpy(), rows[base.first])
    list_ids = table.column("list_id").to_numpy()[entries]
    codes = table.column("code").take(pa.array(entries))
    if codes.null_count:
        return Lists(list_ids)
    width = len(codes[0].as_py())
    return Lists(list_ids, np.frombuffer(b"".join(codes.to_pylist()), "u1").reshape(-1, width))


def read_list_ids(fragment: Fragment, rows: RowNumbers) -> ClusterIds:
    """Return the list of some vectors, (n,).

    Args:
        fragment: fragment of the table `lists`.
        rows: row of each vector in its fragment, shape (n,).
    """
    table = fragment.read(["list_id", "row"])
    entries = _entries(table.column("row").to_numpy(), rows)
    return np.asarray(table.column("list_id").to_numpy()[entries])


def _entries(stored_rows: np.ndarray, rows: RowNumbers) -> RowNumbers:
    """Return the entry of each row in a table `lists`, (n,)."""
    entry_of_row = np.full(int(rows.max(initial=-1)) + 1, -1, np.int64)
    in_range = stored_rows < len(entry_of_row)
    entry_of_row[stored_rows[in_range]] = np.flatnonzero(in_range)
    return entry_of_row[rows]
