"""The join of few queries with all shards of the base; workers read vectors themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import (
    Ids,
    Vectors,
    vector_array,
)
from curation.algorithms.knn import ivf
from curation.algorithms.knn.codebooks import read_codebooks, read_lists
from curation.algorithms.knn.exact import Candidates, build_base, joined, merge, search
from curation.algorithms.knn.params import SearchParams
from curation.algorithms.knn.read import read_rows, read_vectors
from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import StageOutput

CANDIDATES = pa.schema(
    [("query", pa.int64()), ("image_id", pa.string()), ("similarity", pa.float32())]
)


MERGED_HERE = 20_000_000
"""Candidates of all shards that the driver merges by itself; more are merged on workers."""


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


def keep_queries(ids: Ids, vectors: Vectors) -> StageOutput:
    """Write query vectors where every worker finds them."""
    yield pa.RecordBatch.from_arrays([from_ids(ids), vector_array(vectors)], ["image_id", "vector"])
    return None


class Shard(NamedTuple):
    """Aligned fragments of the base; without `eligible` every vector counts, `lists` are its index."""

    embeddings: Fragment
    eligible: Fragment | None = None
    lists: Fragment | None = None


def search_shard(
    shard: Shard,
    queries: Fragment,
    codebooks: Table | None,
    params: SearchParams,
    k: int,
    device: str,
) -> StageOutput:
    """Search one shard of the base for every query, exactly where there are no codebooks."""
    rows, base_ids, base_vectors = read_rows(shard.embeddings, shard.eligible)
    _, query_vectors = read_vectors(queries)
    base = build_base(base_vectors, base_ids)
    if codebooks is None or shard.lists is None or not len(base.vectors):
        found = search(query_vectors, base, k, device=device)
    else:
        books = read_codebooks(codebooks)
        assert books is not None
        own = read_lists(shard.lists, rows, base)
        found = ivf.search(query_vectors, ivf.opened(base, own, books), params, k)
    yield candidates_batch(found)
    return None


def broadcast_join(
    shards: Mapping[str, Shard],
    queries: Fragment,
    codebooks: Table | None,
    params: SearchParams,
    k: int,
    context: Context,
) -> Candidates:
    """Return the k nearest base images of each query, searched shard by shard and merged.

    Args:
        shards: fragments of the base by name.
        queries: a work table of query vectors.
        codebooks: of the index whose lists the shards have; None searches exactly.
        params: how an index is searched.
        k: neighbours of each query.
        context: where workers are.
    """
    items = {
        name: {
            "shard": shard if codebooks is not None else shard._replace(lists=None),
            "queries": queries,
            "codebooks": codebooks,
            "params": params,
            "k": k,
        }
        for name, shard in shards.items()
    }
    records = context.compute("search", search_shard, items, gpu=True)
    parts = [Fragment(context.store, record) for record in records.values()]
    if sum(part.rows for part in parts) <= MERGED_HERE:
        return merge([read_candidates(part) for part in parts], k)
    size = max(1, MERGED_HERE // (k * len(parts)))
    ranges = {
        f"from-{first:010d}": {"parts": parts, "first": first, "end": first + size, "k": k}
        for first in range(0, queries.rows, size)
    }
    merged = context.compute("merge", merge_range, ranges)
    return joined([read_candidates(Fragment(context.store, r)) for r in merged.values()])


def merge_range(parts: Sequence[Fragment], first: int, end: int, k: int) -> StageOutput:
    """Merge what all shards found for the queries from `first` to `end`."""
    own = []
    for part in parts:
        for table in part.row_groups_between("query", first, end - 1):
            query = table.column("query").to_numpy()
            inside = table.filter(pa.array((query >= first) & (query < end)))
            own.append(candidates_of(inside))
    yield candidates_batch(merge(own, k))
    return None
