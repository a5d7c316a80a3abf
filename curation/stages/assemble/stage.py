"""assemble: one row per image with all its claims, shuffled, in a folder for any Parquet reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.engine.context import Context
from curation.engine.exchange import (
    KEY,
    Exchange,
    ExchangeInput,
    MapTask,
    exchange_records,
)
from curation.engine.exchange_runner import OnWorkers
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.assemble.params import AssembleStep
from curation.stages.assemble.rows import (
    IMAGES_PER_BATCH,
    Part,
    dataset_rows,
    dataset_schema,
    order_keys,
    row_sizes,
)
from curation.store.fragment import Fragment
from curation.store.store import DATASET

SIZES = pa.schema({"order": pa.uint64(), "bytes": pa.int64()})
"""A work table with a row for each image of the dataset: its order key, and the bytes of its row."""
CUTS = pa.schema({"order": pa.uint64()})
"""A work table of the order keys with which a new file begins."""
ROWS_AT_ONCE = 20_000_000
"""Rows whose sizes the driver holds at once, at about 48 bytes each."""
ROWS_PER_BATCH = 65_536
Cuts = npt.NDArray[np.uint64]
Sizes: TypeAlias = tuple[Cuts, npt.NDArray[np.int64]]
"""Order keys, and the bytes of each row."""


def assemble(
    images: Table,
    copies: Table,
    assignments: Table,
    claims: Table,
    *,
    params: AssembleStep,
    context: Context,
) -> StageOutput:
    """Join the claimed rows with their claims and copies, and shuffle them by the seed of the recipe.

    The place of an image follows from its id and the seed, so the files hold the same rows in the same
    order however the input is cut into fragments. Any file is a random sample of the dataset.

    Yields:
        The record of each file of `dataset`. Without any claim there is still one file: an empty
        dataset is a table too.
    """
    parts = {
        name: Part(fragment, copies.fragments[name], assignments.fragments[name], claimed)
        for name, fragment in images.fragments.items()
        if (claimed := claims.fragments.get(name)) is not None
    }
    sizes = context.compute(
        "sizes of rows", measure, {n: {"part": p, "params": params} for n, p in parts.items()}
    )
    cuts = file_cuts(sizes_in_order(list(sizes.values()), context), params)
    # There may be as many tasks as fragments, so the cuts are not sent with each.
    (written,) = context.compute("cuts", write_cuts, {"cuts": {"cuts": cuts}}).values()
    shared = {"params": params, "cuts": written}
    tasks = [MapTask(send, {"part": part, **shared}) for part in parts.values()]
    job = Exchange(
        "shuffle",
        {"rows": ExchangeInput(dataset_schema(params), tasks)},
        write_file,
        len(cuts) + 1,
        {"params": params},
        outputs=_file_of,
    )
    yield from exchange_records(job, context)
    return None


def _file_of(part: int) -> dict[str, str]:
    return {f"part-{part:05d}": DATASET}


def measure(part: Part, params: AssembleStep) -> StageOutput:
    """Yield batches of SIZES of the rows that some fragments hold."""
    yield empty_batch(SIZES)
    for keys, sizes in row_sizes(part, params):
        yield pa.RecordBatch.from_arrays([pa.array(keys), pa.array(sizes)], schema=SIZES)
    return None


def sizes_in_order(tables: Sequence[Fragment], context: Context) -> Iterator[Sizes]:
    """Yield the order keys of all rows, ascending, with the bytes of each row.

    Up to ROWS_AT_ONCE rows the driver sorts them. Above that, workers sort them by range, and the
    driver reads one range after another.

    Args:
        tables: tables of SIZES.
        context: where workers run, and where they keep work tables.
    """
    parts = max(1, -(-sum(table.rows for table in tables) // ROWS_AT_ONCE))
    if parts == 1:
        yield _in_order(pa.concat_tables([SIZES.empty_table(), *(t.read() for t in tables)]))
        return
    runner = OnWorkers(context.private())
    tasks = [MapTask(read_sizes, {"sizes": table, "parts": parts}) for table in tables]
    job = Exchange("order of rows", {"sizes": ExchangeInput(SIZES, tasks)}, sort_sizes, parts)
    for table in runner.exchange(job):
        rows = table.read()
        yield np.asarray(rows.column("order")), np.asarray(rows.column("bytes"))
    runner.delete()


def read_sizes(sizes: Fragment, parts: int) -> Iterator[pa.Table]:
    """Yield SIZES, keyed by the number of the range of their order key; ranges are equally wide."""
    for batch in sizes.batches(rows=ROWS_PER_BATCH):
        share = np.asarray(batch.column("order")) / 2.0**64
        number = np.minimum((share * parts).astype(np.uint64), np.uint64(parts - 1))
        yield pa.Table.from_batches([batch]).append_column(KEY, pa.array(number))


def sort_sizes(sizes: pa.Table) -> StageOutput:
    """Yield SIZES of one range in order."""
    columns = [pa.array(values) for values in _in_order(sizes)]
    yield pa.RecordBatch.from_arrays(columns, schema=SIZES)
    return None


def _in_order(sizes: pa.Table) -> Sizes:
    keys, row_bytes = (np.asarray(sizes.column(name)) for name in SIZES.names)
    order = np.argsort(keys, kind="stable")
    return keys[order], row_bytes[order]


def file_cuts(sizes: Iterable[Sizes], params: AssembleStep) -> Cuts:
    """Return the order keys with which a new file begins, (files - 1,), ascending.

    Args:
        sizes: order keys of all rows, ascending, with the bytes of each row, in any number of pieces.
        params: of the stage.
    """
    cuts: list[int] = []
    rows = size = 0
    for keys, row_bytes in sizes:
        ends, start, before = np.cumsum(row_bytes), 0, 0
        while start < len(keys):
            # `rows` and `size` are those of the file so far, which began in an earlier piece.
            limit = before + params.bytes_per_file - size
            by_bytes = int(np.searchsorted(ends, limit, "right"))
            stop = min(by_bytes, start + params.rows_per_file - rows)
            stop = max(stop, start if rows else start + 1)
            if stop >= len(keys):
                rows, size = rows + len(keys) - start, size + int(ends[-1]) - before
                break
            cuts.append(int(keys[stop]))
            start, before = stop, int(ends[stop - 1]) if stop else 0
            rows = size = 0
    return np.array(cuts, np.uint64)


def write_cuts(cuts: Cuts) -> StageOutput:
    """Yield CUTS."""
    yield pa.RecordBatch.from_arrays([pa.array(cuts)], schema=CUTS)
    return None


def send(part: Part, params: AssembleStep, cuts: Fragment) -> Iterator[pa.Table]:
    """Yield the rows that some fragments hold, with the number of their file as KEY.

    Args:
        part: the fragments.
        params: of the stage.
        cuts: a work table of CUTS.
    """
    first_keys = np.asarray(cuts.read().column("order"))
    for batch in dataset_rows(part, params):
        keys = order_keys(to_ids(batch.column("image_id")), params)
        files = np.searchsorted(first_keys, keys, "right").astype(np.uint64)
        yield pa.Table.from_batches([batch]).append_column(KEY, pa.array(files))


def write_file(rows: pa.Table, params: AssembleStep) -> StageOutput:
    """Yield the rows of one file in their order.

    Args:
        rows: the rows, in any order.
        params: of the stage.
    """
    yield empty_batch(dataset_schema(params))
    ids = to_ids(rows.column("image_id"))
    order = np.lexsort((ids, order_keys(ids, params)))
    for start in range(0, len(order), IMAGES_PER_BATCH):
        taken = rows.take(pa.array(order[start : start + IMAGES_PER_BATCH]))
        yield from taken.combine_chunks().to_batches()
    return None
