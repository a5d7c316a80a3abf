"""Codebooks and lists between Parquet and numpy. Arrays, not FAISS's own files: nothing to trust."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.knn.exact import Base
from curation.algorithms.knn.ivf import Codebooks, Lists
from curation.engine.fragment import Fragment
from curation.engine.table import Table


def batch_of(books: Codebooks) -> pa.RecordBatch:
    """Return codebooks as one batch of the table `codebooks`."""
    parts = [("coarse", 0, books.coarse)]
    if books.products is not None:
        parts += [("product", number, words) for number, words in enumerate(books.products)]
    sizes = [len(words) for _, _, words in parts]
    vectors = [word.astype("<f4").tobytes() for _, _, words in parts for word in words]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(np.repeat([kind for kind, _, _ in parts], sizes)),
            pa.array(np.repeat([sub for _, sub, _ in parts], sizes).astype(np.int32)),
            pa.array(np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])),
            pa.array(vectors, pa.binary()),
        ],
        names=["kind", "subquantizer", "number", "vector"],
    )


def read_codebooks(table: Table | Fragment) -> Codebooks | None:
    """Return the codebooks of a table `codebooks`; None where the search is exact."""
    rows = table.read()
    if not len(rows):
        return None
    kinds = rows.column("kind").to_numpy(zero_copy_only=False)
    words = [np.frombuffer(v, "<f4") for v in rows.column("vector").to_pylist()]
    coarse = np.stack([w for w, k in zip(words, kinds, strict=True) if k == "coarse"])
    products = [w for w, k in zip(words, kinds, strict=True) if k == "product"]
    if not products:
        return Codebooks(coarse)
    subs = int(rows.column("subquantizer").to_numpy().max()) + 1
    return Codebooks(coarse, np.stack(products).reshape(subs, -1, products[0].shape[0]))


def lists_batch(rows: np.ndarray, ids: pa.Array, lists: Lists) -> pa.RecordBatch:
    """Return lists as rows of the table `lists`, in the order of lists.

    Args:
        rows: row of each vector in its fragment, (n,).
        ids: image of each vector.
        lists: of the vectors.
    """
    order = np.argsort(lists.own, kind="stable")
    code = pa.nulls(len(rows), pa.binary())
    if lists.codes is not None:
        code = pa.array([c.tobytes() for c in lists.codes[order]], pa.binary())
    return pa.RecordBatch.from_arrays(
        [
            pa.array(lists.own[order]),
            pa.array(rows[order].astype(np.int32)),
            ids.take(pa.array(order)),
            code,
        ],
        names=["list_id", "row", "image_id", "code"],
    )


def read_lists(fragment: Fragment, rows: np.ndarray, base: Base) -> Lists:
    """Return the lists of a base.

    Args:
        fragment: of the table `lists`.
        rows: row in its fragment of each vector that the base was built of.
        base: from those vectors.
    """
    table = fragment.read(["list_id", "row", "code"])
    place = np.full(int(rows.max(initial=-1)) + 1, -1, np.int64)
    found = table.column("row").to_numpy()
    within = found < len(place)
    place[found[within]] = np.flatnonzero(within)
    entries = place[rows[base.first]]
    own = table.column("list_id").to_numpy()[entries]
    codes = table.column("code").take(pa.array(entries))
    if codes.null_count:
        return Lists(own)
    width = len(codes[0].as_py())
    return Lists(own, np.frombuffer(b"".join(codes.to_pylist()), "u1").reshape(-1, width))
