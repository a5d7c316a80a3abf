"""The two plans of the join, over fragments; workers read vectors themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curation.fragment import Fragment
from curation.knn import ivf_pq
from curation.knn.exact import Base, Candidates, build_base, joined, merge, search
from curation.params import MatchStep
from curation.units import Context, Rows
from curation.vectors import Ids, Vectors, comparable_rows, vector_array, vector_matrix

CANDIDATES = pa.schema(
    [("query", pa.int64()), ("image_id", pa.string()), ("similarity", pa.float32())]
)


MERGED_HERE = 20_000_000
"""Candidates of all shards that the driver merges by itself; more are merged on workers."""


def to_ids(column: pa.Array | pa.ChunkedArray) -> Ids:
    """Return image ids as S32."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype="S32")


def from_ids(ids: Ids) -> pa.Array:
    """Return image ids as strings."""
    return pa.array(ids.astype("U32"), pa.string())


def read_vectors(embeddings: Fragment, eligible: Fragment | None = None) -> tuple[Ids, Vectors]:
    """Return the ids and vectors of a fragment, only those of eligible rows where they are given.

    Rows without a vector that can be compared are left out.
    """
    table = embeddings.read(["image_id", "vector"])
    keep = comparable_rows(table.column("vector"))
    if eligible is not None:
        keep = keep & (eligible.read(["status"]).column("status").to_numpy() == "eligible")
    table = table.filter(pa.array(keep))
    return to_ids(table.column("image_id")), vector_matrix(table.column("vector"))


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


# -- few queries against all shards of the base ---------------------------------------------------


def keep_queries(ids: Ids, vectors: Vectors) -> Rows:
    """Write query vectors where every worker finds them."""
    yield pa.RecordBatch.from_arrays([from_ids(ids), vector_array(vectors)], ["image_id", "vector"])
    return None


def keep_index(sample: Vectors, params: MatchStep) -> Rows:
    """Train an index and write it where every worker finds it."""
    yield pa.RecordBatch.from_arrays([pa.array([ivf_pq.train(sample, params)])], ["index"])
    return None


def search_shard(
    embeddings: Fragment,
    eligible: Fragment,
    queries: Fragment,
    index: Fragment | None,
    params: MatchStep,
) -> Rows:
    """Search one shard of the base for every query."""
    base_ids, base_vectors = read_vectors(embeddings, eligible)
    _, query_vectors = read_vectors(queries)
    base = build_base(base_vectors, base_ids)
    if index is None or not len(base.vectors):
        found = search(query_vectors, base, params.k)
    else:
        trained = index.read().column("index")[0].as_py()
        found = ivf_pq.search(query_vectors, base, trained, params)
    yield candidates_batch(found)
    return None


def broadcast_join(
    shards: Mapping[str, Mapping[str, Fragment]],
    queries: Fragment,
    index: Fragment | None,
    params: MatchStep,
    context: Context,
) -> Candidates:
    """Return the k nearest base images of each query, searched shard by shard and merged.

    Args:
        shards: `embeddings` and `eligible` of each fragment of the base.
        queries: a work table of query vectors.
        index: a work table with a trained index; None searches exactly.
    """
    items = {
        name: {**shard, "queries": queries, "index": index, "params": params}
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


# -- self-join ------------------------------------------------------------------------------------


def search_fragment(
    queries: Fragment,
    base: Sequence[Fragment],
    k: int,
    at_least: float,
    own_role: bool,
) -> Rows:
    """Take one fragment of queries past fragments of the base, keeping the k best.

    In a search among images of its own role a query does not find itself.
    """
    ids, vectors = read_vectors(queries)
    unique, first = np.unique(ids, return_index=True)
    vectors = vectors[first]
    best = merge([], k)
    for fragment in base:
        found = search(vectors, _base_of(fragment), k + own_role, at_least)
        if own_role:
            other = unique[found.query] != found.ids
            found = Candidates(found.query[other], found.ids[other], found.similarity[other])
        best = merge([best, found], k)
    yield pa.RecordBatch.from_arrays(
        [from_ids(unique[best.query]), from_ids(best.ids), pa.array(best.similarity)]
        + [pa.array(best.rank())],
        ["query_id", "image_id", "similarity", "rank"],
    )
    return None


def _base_of(fragment: Fragment) -> Base:
    ids, vectors = read_vectors(fragment)
    return build_base(vectors, ids)


def scan_join(
    name: str,
    queries: Mapping[str, Fragment],
    base: Mapping[str, Fragment],
    options: Mapping[str, Any],
    context: Context,
) -> dict[str, pa.Table]:
    """Return for each fragment of queries its rows (query_id, image_id, similarity, rank).

    `options` are k, at_least and own_role of `search_fragment`.
    """
    items = {
        f"{name}-{fragment}": {"queries": own, "base": list(base.values()), **options}
        for fragment, own in queries.items()
    }
    records = context.compute(name, search_fragment, items)
    return {item: Fragment(context.store, r).read() for item, r in records.items()}
