"""The search of the pool for blocks of queries: each slice of the pool streams past each block once.

A task holds one block of queries, on its device if it has one, and keeps the k nearest images of each
while it reads a slice of the pool. The nearest of all slices are then merged. So a few candidates are
stored for each that is kept, however many fragments the pool has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.knn.codebooks import index_of
from curation.algorithms.knn.exact import Candidates
from curation.algorithms.knn.pool import PoolPart, Shard, read_chunks
from curation.algorithms.knn.pool_lists import order_by_lists
from curation.algorithms.knn.queries import Probes, QueryBlock, probe_blocks
from curation.algorithms.knn.running import RunningNearest
from curation.algorithms.knn.search_plan import (
    SearchLimits,
    SearchSize,
    SearchWork,
    choose_layout,
)
from curation.engine.context import Context
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.store.fragment import Fragment

CANDIDATES = pa.schema(
    [("query", pa.int64()), ("image_id", pa.string()), ("similarity", pa.float32())]
)


@dataclass(frozen=True)
class Pool:
    """What is searched.

    Attributes:
        shards: fragments by name.
        eligible: number of rows that are searched.
        dim: dimension of the vectors.
        codebooks: of the index whose lists the shards have; None searches exactly.
        nprobe: lists that a query probes.
    """

    shards: Mapping[str, Shard]
    eligible: int
    dim: int
    codebooks: Table | None = None
    nprobe: int = 0

    def size(self, blocks: Sequence[QueryBlock]) -> SearchSize:
        """Return what the work of a search for some blocks follows from."""
        queries: dict[int, float] = {}
        for block in blocks:
            queries[block.k] = queries.get(block.k, 0) + block.rows
        return SearchSize(
            queries=queries,
            pool=sum(shard.rows for shard in self.shards.values()),
            eligible=self.eligible,
            fragments=len(self.shards),
            dim=self.dim,
            nlist=self.nlist,
            nprobe=self.nprobe if self.nlist else 0,
        )

    @property
    def nlist(self) -> int:
        """Number of lists of the index; 0 for exact search."""
        index = None if self.codebooks is None else index_of(self.codebooks)
        return 0 if index is None else index[1]

    def exactly(self) -> Pool:
        """Return the same pool, searched exactly."""
        shards = {name: shard._replace(lists=None) for name, shard in self.shards.items()}
        return Pool(shards, self.eligible, self.dim)


class BlockCandidates(NamedTuple):
    """What the slices of the pool have for a block of queries.

    Attributes:
        block: the queries.
        slices: work tables of CANDIDATES.
    """

    block: QueryBlock
    slices: tuple[Fragment, ...]


class PoolSearch(NamedTuple):
    """The result of `search_pool`.

    Attributes:
        candidates: for each block of queries.
        work: the work that was counted before.
        slices: number of slices.
    """

    candidates: list[BlockCandidates]
    work: SearchWork
    slices: int

    def measurements(self) -> dict[str, Any]:
        """Return how queries and pool met, what was stored, and the bytes counted to be moved."""
        return {
            "queries": sum(block.rows for block, _ in self.candidates),
            "layout": self.work.layout,
            "blocks": len(self.candidates),
            "slices": self.slices,
            "candidates": sum(table.rows for _, tables in self.candidates for table in tables),
            "bytes": self.work.moved,
        }


def search_pool(
    blocks: Sequence[QueryBlock],
    pool: Pool,
    limits: SearchLimits,
    context: Context,
) -> PoolSearch:
    """Find the nearest images of each query in each slice of the pool.

    Args:
        blocks: queries.
        pool: what is searched.
        limits: bound what a task holds.
        context: where workers run.
    """
    size = pool.size(blocks)
    work = choose_layout(size, limits)
    probes: list[tuple[Fragment, ...] | None] = [None] * len(blocks)
    parts: Mapping[str, PoolPart] = pool.shards
    if pool.codebooks is not None:
        probes = [*probe_blocks(blocks, pool.codebooks, pool.nprobe, limits, context)]
        if work.layout == "cells":
            lists = order_by_lists(pool.shards, size.nlist, pool.dim, limits, context)
            parts = {part.name: part for part in lists if part.rows}
    slices = pool_slices(parts, limits.slice_count(size.kept, len(parts)), limits.fragments)
    sizes = {
        "dim": pool.dim,
        "chunk_rows": limits.chunk_rows(pool.dim),
        "batch_rows": limits.batch_rows,
    }
    items = {
        f"{number:06d}-{name}": {"block": block, "probes": probed, "pool": slice_, "sizes": sizes}
        for number, (block, probed) in enumerate(zip(blocks, probes, strict=True))
        for name, slice_ in slices.items()
    }
    tables = context.compute("search", search_slice, items, gpu=True)
    candidates = [
        BlockCandidates(block, tuple(tables[f"{number:06d}-{name}"] for name in slices))
        for number, block in enumerate(blocks)
    ]
    return PoolSearch(candidates, work, len(slices))


def pool_slices(
    parts: Mapping[str, PoolPart], count: int, most_parts: int
) -> dict[str, tuple[PoolPart, ...]]:
    """Divide the pool into slices, in order.

    A slice is filled up to a power of two of rows, so a part that is added later changes only the last
    slice, until the pool is twice as large.

    Args:
        parts: of the pool, by name.
        count: number of slices at most, unless `most_parts` asks for more.
        most_parts: parts of a slice at most.

    Returns:
        The parts of each slice, by the name of the first.
    """
    total = sum(part.rows for part in parts.values())
    # Two slices that follow each other have more than `rows` together: there are at most `count`.
    rows = 0 if count >= len(parts) else 1 << (2 * total // max(1, count - 1)).bit_length()
    slices: dict[str, tuple[PoolPart, ...]] = {}
    first, filled = "", 0
    for name, part in parts.items():
        if not first or filled + part.rows > rows or len(slices[first]) >= most_parts:
            first, filled = name, 0
            slices[first] = ()
        slices[first] += (part,)
        filled += part.rows
    return slices


def search_slice(
    block: QueryBlock,
    probes: Sequence[Fragment] | None,
    pool: Sequence[PoolPart],
    sizes: Mapping[str, int],
    device: str,
) -> StageOutput:
    """Find the k nearest images of each query in one slice of the pool.

    Args:
        block: the queries.
        probes: the lists that they probe, a table for each part of the block; None searches exactly.
        pool: the slice.
        sizes: `dim` of the vectors, `chunk_rows` that are compared at once, `batch_rows` that are
            yielded at once.
        device: `cpu` or `cuda[:n]`.

    Yields:
        CANDIDATES.
    """
    yield empty_batch(CANDIDATES)
    probing = None if probes is None else Probes(probes)
    expected = sum(part.rows for part in pool)
    running = RunningNearest(block.vectors(sizes["dim"]), block.k, expected, device)
    for chunk in read_chunks(pool, sizes["chunk_rows"]):
        for number, base in chunk.bases():
            if probing is None or number is None:
                running.add(base)
            elif len(queries := probing.of(number)):
                running.add(base, queries)
    for candidates in running.candidates(sizes["batch_rows"]):
        yield candidates_batch(candidates)
    return None


def candidates_batch(candidates: Candidates) -> pa.RecordBatch:
    """Return candidates as rows of a work table, CANDIDATES."""
    return pa.RecordBatch.from_arrays(
        [pa.array(candidates.query), from_ids(candidates.ids), pa.array(candidates.similarity)],
        schema=CANDIDATES,
    )


def candidates_of(table: pa.Table) -> Candidates:
    """Return the candidates in rows of CANDIDATES."""
    return Candidates(
        table.column("query").to_numpy(),
        to_ids(table.column("image_id")),
        table.column("similarity").to_numpy(),
    )
