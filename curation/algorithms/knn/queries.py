"""Brings seeds together as blocks of distinct queries, and finds the lists that they probe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, Vectors, vector_array, vector_matrix
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.read import read_vectors
from curation.algorithms.knn.routing import cell_base, nearest_cells
from curation.algorithms.knn.search_plan import SearchLimits
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.sorted_arrays import run_starts, stable_order
from curation.engine.table import Table
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

ROWS_PER_TASK = 1_000_000
"""Seeds that one task reads and sends."""


class SeedFragment(NamedTuple):
    """A fragment of seeds.

    Attributes:
        set_number: number of its seed set.
        embeddings: vectors.
        eligible: which rows are eligible.
    """

    set_number: int
    embeddings: Fragment
    eligible: Fragment

    @property
    def rows(self) -> int:
        """Number of eligible seeds."""
        return int(self.eligible.record.counts.get("seed", {}).get("eligible", 0))


class QueryBlock(NamedTuple):
    """Queries that one task holds.

    Attributes:
        k: neighbours of each query.
        parts: work tables of `write_queries`. Queries are numbered through all of them.
    """

    k: int
    parts: tuple[Fragment, ...]

    @property
    def rows(self) -> int:
        """Number of queries."""
        return sum(part.rows for part in self.parts)

    def vectors(self, dim: int) -> Vectors:
        """Return the vectors of the queries, float16 of shape (n, dim)."""
        vectors, start = np.empty((self.rows, dim), np.float16), 0
        for part in self.parts:
            for batch in part.batches(["vector"], rows=2**16):
                vectors[start : start + len(batch)] = vector_matrix(batch.column("vector"))
                start += len(batch)
        return vectors

    def members(self, first: int, end: int) -> tuple[Ids, pa.Array]:
        """Return the image ids and the seed sets of the queries from number `first` to `end` − 1."""
        tables, start = list[pa.Table](), 0
        for part in self.parts:
            low, high = max(first - start, 0), min(end - start, part.rows)
            if low < high:
                tables.append(part.read(["image_id", "sets"]).slice(low, high - low))
            start += part.rows
        table = pa.concat_tables(tables).combine_chunks()
        return to_ids(table.column("image_id")), table.column("sets").combine_chunks()


def query_blocks(
    seeds: Mapping[int, Sequence[SeedFragment]],
    dim: int,
    nprobe: int,
    limits: SearchLimits,
    context: Context,
) -> list[QueryBlock]:
    """Divide seeds into blocks of distinct queries. Workers read the seeds and write the blocks.

    Args:
        seeds: fragments by the number of neighbours that their seed sets want.
        dim: dimension of the vectors.
        nprobe: lists that a query probes; 0 for exact search.
        limits: bound a block, and the part of it that one task writes.
        context: where workers run.
    """
    blocks = []
    for k, fragments in sorted(seeds.items()):
        parts = [part for part in _query_parts(k, fragments, dim, limits, context) if part.rows]
        groups = split_by_rows(parts, limits.block_rows(k, dim, nprobe))
        blocks += [QueryBlock(k, tuple(group)) for group in groups]
    return blocks


def _query_parts(
    k: int, fragments: Sequence[SeedFragment], dim: int, limits: SearchLimits, context: Context
) -> list[Fragment]:
    rows = sum(fragment.rows for fragment in fragments)
    part_rows = min(limits.part_rows(dim), limits.block_rows(k, dim, 0))
    schema = pa.schema(
        [("set", pa.int32()), ("image_id", pa.string()), ("vector", pa.binary(2 * dim))]
    )
    batches = split_by_rows(fragments, ROWS_PER_TASK)
    tasks = [MapTask(read_seeds, {"fragments": batch}) for batch in batches]
    job = Exchange(
        f"queries of {k}",
        {"seeds": ExchangeInput(schema, tasks)},
        write_queries,
        max(1, -(-rows // part_rows)),
        {"batch_rows": limits.batch_rows},
    )
    return exchange_tables(job, context)


def read_seeds(fragments: Sequence[SeedFragment]) -> Iterator[pa.Table]:
    """Yield the eligible seeds of some fragments, keyed by image.

    Args:
        fragments: seeds, of one or several sets.
    """
    for number, embeddings, eligible in fragments:
        ids, vectors = read_vectors(embeddings, eligible)
        if len(ids):
            # An image that a set lists again is sent once.
            ids, first = np.unique(ids, return_index=True)
            columns = [
                pa.array(np.full(len(ids), number, np.int32)),
                from_ids(ids),
                vector_array(vectors[first]),
                pa.array(seeded_keys(ids, "queries")),
            ]
            yield pa.table(columns, names=["set", "image_id", "vector", KEY])


def write_queries(seeds: pa.Table, batch_rows: int) -> StageOutput:
    """Write the distinct images of some seeds, sorted by id.

    Args:
        seeds: rows of `read_seeds`, all those of each image.
        batch_rows: rows of a batch.

    Yields:
        Batches with the columns `image_id`, `sets` (ascending numbers) and `vector`.
    """
    ids = to_ids(seeds.column("image_id"))
    sets = seeds.column("set").to_numpy()
    order = np.lexsort((sets, ids))
    order = order[run_starts(ids[order], sets[order])]
    starts = np.flatnonzero(run_starts(ids[order]))
    offsets = np.append(starts, len(order)).astype(np.int32)
    first = order[starts]
    for low in range(0, max(len(first), 1), batch_rows):
        rows = slice(low, low + batch_rows)
        bounds = offsets[low : low + batch_rows + 1]
        members = sets[order[bounds[0] : bounds[-1]]]
        taken = seeds.select(["vector"]).take(pa.array(first[rows]))
        yield pa.record_batch(
            {
                "image_id": from_ids(ids[first[rows]]),
                "sets": pa.ListArray.from_arrays(bounds - bounds[0], members),
                "vector": taken.column("vector").combine_chunks(),
            }
        )
    return None


def probe_blocks(
    blocks: Sequence[QueryBlock],
    codebooks: Table,
    nprobe: int,
    limits: SearchLimits,
    context: Context,
) -> list[tuple[Fragment, ...]]:
    """Find the lists that each query probes: once for each, whatever the pool is divided into.

    Returns:
        For each block, a work table of `write_probes` for each of its parts.
    """
    shared = {"codebooks": codebooks, "nprobe": nprobe, "batch_rows": limits.batch_rows}
    items = {part.content: {"queries": part} | shared for block in blocks for part in block.parts}
    probes = context.compute("probe", write_probes, items, gpu=True)
    return [tuple(probes[part.content] for part in block.parts) for block in blocks]


def write_probes(
    queries: Fragment, codebooks: Table, nprobe: int, batch_rows: int, device: str
) -> StageOutput:
    """Write the nearest lists of each query.

    Args:
        queries: a part of a block.
        codebooks: of the index.
        nprobe: lists of each query.
        batch_rows: queries that are looked up at once.
        device: `cpu` or `cuda[:n]`.

    Yields:
        Batches with the column `lists`, nearest first.
    """
    trained = read_codebooks(codebooks)
    assert trained is not None
    base = cell_base(trained.coarse)
    spread = min(nprobe, len(trained.coarse))
    for batch in queries.batches(["vector"], rows=batch_rows):
        lists = nearest_cells(vector_matrix(batch.column("vector")), base, spread, device)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(lists.ravel()), spread)
        yield pa.RecordBatch.from_arrays([flat], names=["lists"])
    return None


class Probes:
    """Which queries probe each list.

    Args:
        tables: work tables of `write_probes`, in the order of the queries.
    """

    def __init__(self, tables: Sequence[Fragment]) -> None:
        columns = [table.read(["lists"]).column("lists") for table in tables]
        flat = np.concatenate([c.combine_chunks().flatten().to_numpy() for c in columns])
        spread = columns[0].type.list_size
        order = stable_order(flat)
        self._queries: npt.NDArray[np.int64] = order // spread
        self._lists, self._starts = np.unique(flat[order], return_index=True)
        self._ends = np.append(self._starts[1:], len(flat))

    def of(self, number: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the queries that probe a list, ascending."""
        place = int(np.searchsorted(self._lists, number))
        if place == len(self._lists) or self._lists[place] != number:
            return np.empty(0, np.int64)
        return self._queries[self._starts[place] : self._ends[place]]
