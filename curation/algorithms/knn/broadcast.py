"""The join of few queries with all shards of the base. Workers read the vectors themselves."""

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
from curation.algorithms.knn.exact import (
    Candidates,
    build_base,
    concat_candidates,
    merge,
    search,
)
from curation.algorithms.knn.params import SearchParams
from curation.algorithms.knn.read import read_numbered_vectors, read_vectors
from curation.engine.context import Context
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

CANDIDATES = pa.schema(
    [("query", pa.int64()), ("image_id", pa.string()), ("similarity", pa.float32())]
)
MERGED_ON_DRIVER = 20_000_000
"""Candidates of all shards up to which the driver merges them. More are merged on workers."""


def candidates_batch(candidates: Candidates) -> pa.RecordBatch:
    """Return candidates as rows of a work table, CANDIDATES."""
    return pa.RecordBatch.from_arrays(
        [pa.array(candidates.query), from_ids(candidates.ids), pa.array(candidates.similarity)],
        schema=CANDIDATES,
    )


def read_candidates(fragment: Fragment) -> Candidates:
    """Return the candidates in a work table of CANDIDATES."""
    return candidates_of(fragment.read())


def candidates_of(table: pa.Table) -> Candidates:
    """Return the candidates in rows of CANDIDATES."""
    return Candidates(
        table.column("query").to_numpy(),
        to_ids(table.column("image_id")),
        table.column("similarity").to_numpy(),
    )


def write_queries(ids: Ids, vectors: Vectors) -> StageOutput:
    """Write query vectors to a work table, which every worker can read."""
    yield pa.RecordBatch.from_arrays([from_ids(ids), vector_array(vectors)], ["image_id", "vector"])
    return None


class Shard(NamedTuple):
    """Fragments of the base with the same rows.

    Attributes:
        embeddings: vectors.
        eligible: which rows are eligible; None if all are searched.
        lists: inverted lists; None for exact search.
    """

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
    """Find the k nearest images of each query within one shard.

    The search is exact if there are no codebooks or the shard has no lists.

    Args:
        shard: fragments of the base.
        queries: a work table of `write_queries`.
        codebooks: of the index.
        params: how an index is searched.
        k: neighbours of each query.
        device: `cpu` or `cuda[:n]`.

    Yields:
        CANDIDATES.
    """
    rows, base_ids, base_vectors = read_numbered_vectors(shard.embeddings, shard.eligible)
    _, query_vectors = read_vectors(queries)
    base = build_base(base_vectors, base_ids)
    if codebooks is None or shard.lists is None or not len(base.vectors):
        candidates = search(query_vectors, base, k, device=device)
    else:
        trained = read_codebooks(codebooks)
        assert trained is not None
        lists = read_lists(shard.lists, rows, base)
        candidates = ivf.search(query_vectors, ivf.build_index(base, lists, trained), params, k)
    yield candidates_batch(candidates)
    return None


def broadcast_join(
    shards: Mapping[str, Shard],
    queries: Fragment,
    codebooks: Table | None,
    params: SearchParams,
    k: int,
    context: Context,
) -> Candidates:
    """Return the k nearest base images of each query. Shards are searched one by one and merged.

    Args:
        shards: fragments of the base by name.
        queries: a work table of `write_queries`.
        codebooks: of the index whose lists the shards have; None searches exactly.
        params: how an index is searched.
        k: neighbours of each query.
        context: where workers run.
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
    if sum(part.rows for part in parts) <= MERGED_ON_DRIVER:
        return merge([read_candidates(part) for part in parts], k)
    size = max(1, MERGED_ON_DRIVER // (k * len(parts)))
    ranges = {
        f"from-{first:010d}": {"parts": parts, "first": first, "end": first + size, "k": k}
        for first in range(0, queries.rows, size)
    }
    merged = context.compute("merge", merge_range, ranges)
    return concat_candidates(
        [read_candidates(Fragment(context.store, record)) for record in merged.values()]
    )


def merge_range(parts: Sequence[Fragment], first: int, end: int, k: int) -> StageOutput:
    """Merge what all shards found for a range of queries.

    Args:
        parts: work tables of CANDIDATES, one for each shard.
        first: number of the first query.
        end: number after that of the last query.
        k: neighbours of each query.

    Yields:
        CANDIDATES.
    """
    candidates = []
    for part in parts:
        for table in part.row_groups_between("query", first, end - 1):
            query = table.column("query").to_numpy()
            in_range = table.filter(pa.array((query >= first) & (query < end)))
            candidates.append(candidates_of(in_range))
    yield candidates_batch(merge(candidates, k))
    return None
