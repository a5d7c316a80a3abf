"""Recall of an approximate search of the pool, measured by exact search for a sample of its queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.queries import QueryBlock
from curation.algorithms.knn.search_plan import SearchLimits
from curation.algorithms.knn.stream_merge import MergeRange, merge_exchange, merge_part
from curation.algorithms.knn.streams import Pool, search_pool
from curation.engine.context import Context
from curation.engine.exchange import exchange_tables
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

PAIRS = pa.schema([("seed_image_id", pa.string()), ("image_id", pa.string())])


class RecallSample(NamedTuple):
    """Which queries are searched exactly: the first `queries` of a seeded order."""

    queries: int
    seed: int


def measure_recall(
    blocks: Sequence[QueryBlock],
    pool: Pool,
    matches: Sequence[Fragment],
    sample: RecallSample,
    limits: SearchLimits,
    context: Context,
) -> dict[str, Any]:
    """Return the share of the exact neighbours of some queries that a search found.

    Args:
        blocks: all queries.
        pool: what was searched.
        matches: fragments with the columns of PAIRS, of all that the search retrieved.
        sample: which queries are looked at.
        limits: bound what a task holds.
        context: where workers run.

    Returns:
        `recall`, null if the queries have no neighbours; `recall_queries`, the number of queries; and
        `recall_at`, the most neighbours of a query.
    """
    sampled = _sample_blocks(blocks, sample, context)
    searched = search_pool(sampled, pool.exactly(), limits, context)
    job = merge_exchange(searched.candidates, write_pairs, {}, limits)
    truth = _pairs(exchange_tables(job, context))
    query_ids = np.unique(np.array([query for query, _ in truth], "S32"))
    items = {part.name: {"matches": part, "query_ids": query_ids} for part in matches}
    tables = context.compute("recall, retrieved pairs", write_retrieved, items)
    retrieved = _pairs(tables.values())
    return {
        "recall": round(len(truth & retrieved) / len(truth), 6) if truth else None,
        "recall_queries": sum(block.rows for block in sampled),
        "recall_at": max(block.k for block in blocks),
    }


def _sample_blocks(
    blocks: Sequence[QueryBlock], sample: RecallSample, context: Context
) -> list[QueryBlock]:
    """Return blocks of the sampled queries, one for each number of neighbours."""
    items = {
        part.content: {"queries": part, "count": sample.queries, "seed": sample.seed}
        for block in blocks
        for part in block.parts
    }
    first = context.compute("recall, first queries", write_first, items)
    keys = np.concatenate([t.read(["key"]).column("key").to_numpy() for t in first.values()])
    last = int(np.sort(keys)[: sample.queries][-1])
    items = {
        f"sample-{k}": {
            "first": tuple(first[p.content] for b in blocks if b.k == k for p in b.parts),
            "last": last,
        }
        for k in sorted({block.k for block in blocks})
    }
    taken = context.compute("recall, queries", write_sample, items)
    sampled = [
        QueryBlock(int(name.removeprefix("sample-")), (table,)) for name, table in taken.items()
    ]
    return [block for block in sampled if block.rows]


def write_first(queries: Fragment, count: int, seed: int) -> StageOutput:
    """Write the first queries of a part of a block, in a seeded order of images.

    Args:
        queries: the part.
        count: number of queries at most.
        seed: of the order.

    Yields:
        A batch with the columns of the part and `key`, sorted by image id.
    """
    ids = to_ids(queries.read(["image_id"]).column("image_id"))
    keys = seeded_keys(ids, seed, "recall")
    rows = np.sort(np.lexsort((ids, keys))[:count])
    start = 0
    for batch in queries.batches():
        here = rows[(rows >= start) & (rows < start + len(batch))]
        taken = batch.take(pa.array(here - start))
        yield pa.RecordBatch.from_arrays(
            [*taken.columns, pa.array(keys[here])], names=[*taken.schema.names, "key"]
        )
        start += len(batch)
    return None


def write_sample(first: Sequence[Fragment], last: int) -> StageOutput:
    """Write the queries of `write_first` up to a key, as a part of a block."""
    for part in first:
        table = part.read()
        wanted = table.filter(pa.array(table.column("key").to_numpy() <= np.uint64(last)))
        yield from wanted.drop_columns(["key"]).combine_chunks().to_batches()
        yield empty_batch(wanted.drop_columns(["key"]).schema)
    return None


def write_pairs(
    candidates: pa.Table, ranges: Sequence[MergeRange], batch_rows: int, part: int
) -> StageOutput:
    """Write the nearest images of some queries as PAIRS; the arguments are those of `merge_part`."""
    yield empty_batch(PAIRS)
    best, ids, _ = merge_part(candidates, ranges, part)
    for low in range(0, len(best.query), batch_rows):
        rows = slice(low, low + batch_rows)
        columns = [from_ids(ids[best.query[rows]]), from_ids(best.ids[rows])]
        yield pa.RecordBatch.from_arrays(columns, schema=PAIRS)
    return None


def write_retrieved(matches: Fragment, query_ids: Ids) -> StageOutput:
    """Write the rows of some queries as PAIRS.

    Args:
        matches: a fragment with the columns of PAIRS.
        query_ids: image ids of the queries, (n,).
    """
    yield empty_batch(PAIRS)
    wanted = from_ids(query_ids)
    for batch in matches.batches(PAIRS.names, rows=2**16):
        rows = batch.filter(pc.is_in(batch.column("seed_image_id"), wanted))
        yield pa.RecordBatch.from_arrays(rows.columns, schema=PAIRS)
    return None


def _pairs(tables: Iterable[Fragment]) -> set[tuple[str, str]]:
    """Return the different pairs of PAIRS in some work tables."""
    pairs: set[tuple[str, str]] = set()
    for table in tables:
        rows = table.read(PAIRS.names)
        pairs |= set(zip(*(rows.column(name).to_pylist() for name in PAIRS.names), strict=True))
    return pairs
