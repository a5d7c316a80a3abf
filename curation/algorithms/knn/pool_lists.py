"""Brings the vectors of the pool into the order of their lists, through the exchange.

A list of an index has few rows in each fragment of the pool. Only if all its rows lie together can one
matrix product compare them with all queries that probe it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids, vector_array
from curation.algorithms.knn.cell_shares import divide, share_of
from curation.algorithms.knn.pool import Shard, read_shard
from curation.algorithms.knn.search_plan import SearchLimits
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.sorted_arrays import run_starts
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput, empty_batch
from curation.store.digest import digest
from curation.store.fragment import Fragment

ROWS_PER_TASK = 1_000_000
"""Rows of the pool that one task reads and sends."""
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ListParts:
    """Which part holds the vectors of each list.

    Attributes:
        starts: the first list of each group of lists.
        shares: parts of each group; more than 1 only for a group of one list, whose images are divided
            by their ids.
    """

    starts: tuple[int, ...]
    shares: tuple[int, ...]

    @property
    def content(self) -> str:
        """What memos depend on."""
        return digest([self.starts, self.shares])

    @property
    def count(self) -> int:
        """Number of parts."""
        return sum(self.shares)

    def of(self, ids: Ids, lists: npt.NDArray[np.int32]) -> Numbers:
        """Return the part of each image, (n,), by its id (n,) and list (n,)."""
        group = np.searchsorted(self.starts, lists, "right") - 1
        shares = np.array(self.shares, np.int64)
        first = np.cumsum(shares) - shares
        return np.asarray(first[group] + share_of(ids, shares[group]))


def list_parts(counts: Numbers, rows: int) -> ListParts:
    """Divide lists into parts of at most `rows` vectors, about.

    Args:
        counts: number of vectors of each list, (nlist,), at least one list.
        rows: vectors of a part.
    """
    starts, shares = divide(counts, rows, held=1)
    return ListParts(tuple(starts), tuple(shares))


def order_by_lists(
    shards: Mapping[str, Shard], nlist: int, dim: int, limits: SearchLimits, context: Context
) -> list[Fragment]:
    """Return the vectors of the pool as work tables in the order of their lists.

    Args:
        shards: fragments of the pool by name, with lists.
        nlist: number of lists.
        dim: dimension of the vectors.
        limits: bound a part.
        context: where workers run.

    Returns:
        Tables with the columns `list`, `image_id` and `vector`. Each image occurs once.
    """
    batches = split_by_rows(shards.values(), ROWS_PER_TASK)
    counts = np.zeros(nlist, np.int64)
    items = {f"lists-{batch[0].embeddings.name}": {"shards": batch} for batch in batches}
    for counted in context.compute("count", write_counts, items).values():
        table = counted.read()
        np.add.at(counts, table.column("list").to_numpy(), table.column("count").to_numpy())
    parts = list_parts(counts, limits.part_rows(dim))
    schema = pa.schema(
        [("list", pa.int32()), ("image_id", pa.string()), ("vector", pa.binary(2 * dim))]
    )
    tasks = [MapTask(read_by_list, {"shards": batch, "parts": parts}) for batch in batches]
    job = Exchange(
        "lists",
        {"pool": ExchangeInput(schema, tasks)},
        write_lists,
        parts.count,
        {"batch_rows": limits.batch_rows},
    )
    return exchange_tables(job, context)


def write_counts(shards: Sequence[Shard]) -> StageOutput:
    """Write how many vectors of some shards are in each list, searched or not.

    Yields:
        Batches with the columns `list` and `count`.
    """
    for shard in shards:
        assert shard.lists is not None
        lists = shard.lists.read(["list_id"]).column("list_id").to_numpy()
        number, count = np.unique(lists, return_counts=True)
        yield pa.record_batch({"list": pa.array(number, pa.int32()), "count": count})
    return None


def read_by_list(shards: Sequence[Shard], parts: ListParts) -> Iterator[pa.Table]:
    """Yield the vectors of some shards that are searched, keyed by the part of their list."""
    for shard in shards:
        ids, vectors, lists = read_shard(shard)
        if len(ids):
            assert lists is not None
            key = parts.of(ids, lists).astype(np.uint64)
            columns = [pa.array(lists), from_ids(ids), vector_array(vectors), pa.array(key)]
            yield pa.table(columns, names=["list", "image_id", "vector", KEY])


def write_lists(pool: pa.Table, batch_rows: int) -> StageOutput:
    """Write the distinct images of some lists, by list and image id.

    Args:
        pool: rows of `read_by_list`.
        batch_rows: rows of a batch.

    Yields:
        Batches with the columns `list`, `image_id` and `vector`.
    """
    ids, lists = to_ids(pool.column("image_id")), pool.column("list").to_numpy()
    order = np.lexsort((ids, lists))
    order = order[run_starts(lists[order], ids[order])]
    for low in range(0, max(len(order), 1), batch_rows):
        rows = pool.take(pa.array(order[low : low + batch_rows])).combine_chunks()
        yield from rows.to_batches() or [empty_batch(pool.schema)]
    return None
