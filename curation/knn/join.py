"""The join of few queries with all shards of the base; workers read vectors themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.fragment import Fragment, Table
from curation.knn import ivf
from curation.knn.codebooks import read_codebooks, read_lists
from curation.knn.exact import Candidates, build_base, joined, merge, search
from curation.steps import MatchStep
from curation.units import Context, Rows
from curation.vectors import Bools, Ids, Vectors, comparable_rows, vector_array, vector_matrix

CANDIDATES = pa.schema(
    [("query", pa.int64()), ("image_id", pa.string()), ("similarity", pa.float32())]
)


MERGED_HERE = 20_000_000
"""Candidates of all shards that the driver merges by itself; more are merged on workers."""


def to_ids(column: pa.Array | pa.ChunkedArray) -> Ids:
    """Return image ids as S32."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype="S32")


def from_ids(ids: Ids, known: Bools | None = None) -> pa.Array:
    """Return image ids as strings, null where not known.

    Arrow's own conversion is slow, and gives chunks from a million on.

    Raises:
        ValueError: there are more than a string array holds, 2^26.
    """
    whole = np.ascontiguousarray(ids, "S32")
    if len(whole) >= 2**26:
        raise ValueError(f"{len(whole)} ids do not fit into one string array")
    mask = None if known is None else pa.array(known).buffers()[1]
    full = whole.view(np.uint8).reshape(-1, 32)[:, -1] > 0
    if not (full if known is None else full | ~known).all():
        return pa.array(ids.astype("U32"), pa.string(), mask=None if known is None else ~known)
    ends = np.arange(0, 32 * (len(whole) + 1), 32, dtype=np.int32)
    buffers = pa.py_buffer(ends), pa.py_buffer(whole), mask
    return pa.StringArray.from_buffers(len(whole), *buffers)


def read_vectors(embeddings: Fragment, eligible: Fragment | None = None) -> tuple[Ids, Vectors]:
    """Return the ids and vectors of a fragment, only those of eligible rows where they are given.

    Rows without a vector that can be compared are left out.
    """
    _, ids, vectors = read_rows(embeddings, eligible)
    return ids, vectors


def read_rows(
    embeddings: Fragment, eligible: Fragment | None = None
) -> tuple[npt.NDArray[np.int64], Ids, Vectors]:
    """Return `read_vectors`, after the row of each in the fragment."""
    table = embeddings.read(["image_id", "vector"])
    keep = comparable_rows(table.column("vector"))
    if eligible is not None:
        keep = keep & (eligible.read(["status"]).column("status").to_numpy() == "eligible")
    table = table.filter(pa.array(keep))
    ids, vectors = to_ids(table.column("image_id")), vector_matrix(table.column("vector"))
    return np.flatnonzero(keep), ids, vectors


def candidates_batch(found: Candidates) -> pa.RecordBatch:
    """Return candidates as rows of a work table."""
    return pa.RecordBatch.from_arrays(
        [pa.array(found.query), from_ids(found.ids), pa.array(found.similarity)],
        schema=CANDIDATES,
    )


def read_candidates(fragment: Fragment) -> Candidates:
    """Read back `candidates_batch`."""
    return candidates_of(fragment.read())


def candidates_of(table: pa.Table) -> Candidates:
    """Return the candidates in rows of a work table."""
    return Candidates(
        table.column("query").to_numpy(),
        to_ids(table.column("image_id")),
        table.column("similarity").to_numpy(),
    )


def keep_queries(ids: Ids, vectors: Vectors) -> Rows:
    """Write query vectors where every worker finds them."""
    yield pa.RecordBatch.from_arrays([from_ids(ids), vector_array(vectors)], ["image_id", "vector"])
    return None


class Shard(NamedTuple):
    """Aligned fragments of the base; without `eligible` every vector counts, `lists` are its index."""

    embeddings: Fragment
    eligible: Fragment | None = None
    lists: Fragment | None = None


def search_shard(
    shard: Shard, queries: Fragment, codebooks: Table | None, params: MatchStep, device: str
) -> Rows:
    """Search one shard of the base for every query, exactly where there are no codebooks."""
    rows, base_ids, base_vectors = read_rows(shard.embeddings, shard.eligible)
    _, query_vectors = read_vectors(queries)
    base = build_base(base_vectors, base_ids)
    if codebooks is None or shard.lists is None or not len(base.vectors):
        found = search(query_vectors, base, params.k, device=device)
    else:
        books = read_codebooks(codebooks)
        assert books is not None
        own = read_lists(shard.lists, rows, base)
        found = ivf.search(query_vectors, ivf.opened(base, own, books), params, params.k)
    yield candidates_batch(found)
    return None


def broadcast_join(
    shards: Mapping[str, Shard],
    queries: Fragment,
    codebooks: Table | None,
    params: MatchStep,
    context: Context,
) -> Candidates:
    """Return the k nearest base images of each query, searched shard by shard and merged.

    Args:
        shards: fragments of the base by name.
        queries: a work table of query vectors.
        codebooks: of the index whose lists the shards have; None searches exactly.
        params: k, and how an index is searched.
        context: where workers are.
    """
    items = {
        name: {
            "shard": shard if codebooks is not None else shard._replace(lists=None),
            "queries": queries,
            "codebooks": codebooks,
            "params": params,
        }
        for name, shard in shards.items()
    }
    records = context.compute("search", search_shard, items)
    parts = [Fragment(context.store, record) for record in records.values()]
    if sum(part.rows for part in parts) <= MERGED_HERE:
        return merge([read_candidates(part) for part in parts], params.k)
    size = max(1, MERGED_HERE // (params.k * len(parts)))
    ranges = {
        f"from-{first:010d}": {"parts": parts, "first": first, "end": first + size, "k": params.k}
        for first in range(0, queries.rows, size)
    }
    merged = context.compute("merge", merge_range, ranges)
    return joined([read_candidates(Fragment(context.store, r)) for r in merged.values()])


def merge_range(parts: Sequence[Fragment], first: int, end: int, k: int) -> Rows:
    """Merge what all shards found for the queries from `first` to `end`."""
    own = []
    for part in parts:
        for table in part.between("query", first, end - 1):
            query = table.column("query").to_numpy()
            inside = table.filter(pa.array((query >= first) & (query < end)))
            own.append(candidates_of(inside))
    yield candidates_batch(merge(own, k))
    return None
