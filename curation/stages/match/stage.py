"""match: the nearest pool images of every eligible seed image, as many as the arms of its set need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids
from curation.algorithms.arrays.vectors import Bools, Ids
from curation.algorithms.knn.codebooks import index_of
from curation.algorithms.knn.exact import Candidates
from curation.algorithms.knn.pool import Shard
from curation.algorithms.knn.queries import SeedFragment, query_blocks
from curation.algorithms.knn.read import dimension
from curation.algorithms.knn.sample import eligible_rows, seed_fragments
from curation.algorithms.knn.search_plan import SearchLimits
from curation.algorithms.knn.stream_merge import MergeRange, merge_exchange, merge_part
from curation.algorithms.knn.stream_recall import RecallSample, measure_recall
from curation.algorithms.knn.streams import Pool, search_pool
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.exchange import exchange_records
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.match.params import MatchStep
from curation.store.fragment import Fragment


def match(
    eligible: Table,
    embeddings: dict[str, Table],
    codebooks: Table,
    lists: Table,
    *,
    params: MatchStep,
    context: Context,
) -> StageOutput:
    """Search the eligible pool for the nearest images of every eligible seed image.

    The driver holds names of fragments alone: workers read seeds and pool, and write the rows.

    Yields:
        ("all", batch of `matches`) without rows, and records of fragments that workers wrote: within
        each by seed set, then by seed image, then by rank.

    Returns:
        `index`, the kind of search; `queries` and `shards`, the number of searched seed images (one for
        each k that its sets want) and of pool fragments; `layout`, `blocks`, `slices`, `candidates` and
        `bytes`, how queries and pool met, and what that stored and was counted to move; `recall`, the
        share of the true neighbours that an index finds for a sample of `recall_queries` queries,
        `recall_at` at most for each, null if nothing was searched; and `search_seconds`.
    """
    yield "all", empty_batch(contract("matches").arrow_schema())
    vectors, index = embeddings[params.encoder], index_of(codebooks)
    stats: dict[str, Any] = {"index": "exact" if index is None else index[0], "queries": 0}
    sets = sorted(name for name, k in params.k.items() if k)
    seeds = _seed_fragments(eligible, vectors, sets, params.k)
    dim = dimension(vectors)
    limits = SearchLimits.of_block(params.block_gib)
    nprobe = params.search.nprobe if index else 0
    blocks = query_blocks(seeds, dim, nprobe, limits, context) if dim else []
    shards = _shards(eligible, vectors, None if index is None else lists)
    pool = Pool(shards, eligible_rows(eligible), dim, None if index is None else codebooks, nprobe)
    if not blocks or not pool.eligible:
        return stats | {"recall": None}
    started = time.monotonic()
    searched = search_pool(blocks, pool, limits, context)
    job = merge_exchange(searched.candidates, write_matches, {"sets": tuple(sets)}, limits)
    records = list(exchange_records(replace(job, outputs=_output), context))
    yield from records
    stats |= searched.measurements() | {
        "shards": len(shards),
        "recall": 1.0,
        "search_seconds": round(time.monotonic() - started, 3),
    }
    if index is None:
        return stats
    matches = [Fragment(context.store, record) for record in records]
    sample = RecallSample(params.search.recall_queries, params.seed)
    return stats | measure_recall(blocks, pool, matches, sample, limits, context)


def _seed_fragments(
    eligible: Table, embeddings: Table, sets: Sequence[str], k: Mapping[str, int]
) -> dict[int, list[SeedFragment]]:
    """Return the fragments of the seeds by the number of neighbours that their sets want."""
    seeds: dict[int, list[SeedFragment]] = {}
    for name, (fragment, source) in seed_fragments(eligible).items():
        if source in sets:
            member = SeedFragment(sets.index(source), embeddings.fragments[name], fragment)
            seeds.setdefault(k[source], []).append(member)
    return seeds


def _shards(eligible: Table, embeddings: Table, lists: Table | None) -> dict[str, Shard]:
    """Return the fragments of the pool that have an eligible row."""
    return {
        name: Shard(
            embeddings.fragments[name], fragment, None if lists is None else lists.fragments[name]
        )
        for name, fragment in eligible.fragments.items()
        if fragment.record.counts.get("pool", {}).get("eligible", 0)
    }


def _output(part: int) -> dict[str, str]:
    return {f"all-{part:06d}": "matches"}


def write_matches(
    candidates: pa.Table,
    ranges: Sequence[MergeRange],
    sets: Sequence[str],
    batch_rows: int,
    part: int,
) -> StageOutput:
    """Write the nearest images of some queries.

    Args:
        candidates: of these queries, of all slices of the pool.
        ranges: how queries are divided among tasks.
        sets: names of the seed sets.
        batch_rows: rows of a batch.
        part: number of the task.

    Yields:
        Batches of `matches`.
    """
    yield empty_batch(contract("matches").arrow_schema())
    best, ids, set_lists = merge_part(candidates, ranges, part)
    member = np.repeat(np.arange(len(ids)), np.diff(set_lists.offsets.to_numpy()))
    numbers = set_lists.flatten().to_numpy()
    for number in np.unique(numbers).tolist():
        in_set = np.zeros(len(ids), bool)
        in_set[member[numbers == number]] = True
        yield from _set_batches(best, ids, in_set, sets[number], batch_rows)
    return None


def _set_batches(
    best: Candidates, ids: Ids, in_set: Bools, seed_set: str, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `matches` of one seed set.

    Args:
        best: neighbours of all queries.
        ids: image id of each query, (n,).
        in_set: which queries are in the set, (n,).
        seed_set: name of the set.
        batch_rows: rows of a batch.
    """
    ranks, rows = best.rank(), np.flatnonzero(in_set[best.query])
    for low in range(0, len(rows), batch_rows):
        part = rows[low : low + batch_rows]
        yield pa.record_batch(
            {
                "seed_set": pa.repeat(seed_set, len(part)),
                "seed_image_id": from_ids(ids[best.query[part]]),
                "image_id": from_ids(best.ids[part]),
                "similarity": best.similarity[part],
                "rank": ranks[part],
            }
        )
