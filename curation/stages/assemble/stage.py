"""assemble: one row per image with all its claims, shuffled, in a folder for any Parquet reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange
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

SIZES = pa.schema({KEY: pa.uint64(), "bytes": pa.int64()})
"""A work table with a row for each image of the dataset: its order key, and the bytes of its row."""
Cuts = npt.NDArray[np.uint64]


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
    measured = context.compute(
        "sizes of rows", measure, {n: {"part": p, "params": params} for n, p in parts.items()}
    )
    cuts = file_cuts((Fragment(context.store, record) for record in measured.values()), params)
    tasks = [MapTask(send, {"part": p, "params": params, "cuts": cuts}) for p in parts.values()]
    job = Exchange(
        "shuffle",
        {"rows": ExchangeInput(dataset_schema(params), tasks)},
        write_file,
        len(cuts) + 1,
        {"params": params},
        outputs=_file_of,
    )
    for records in exchange(job, context):
        yield from records.values()
    return None


def _file_of(part: int) -> dict[str, str]:
    return {f"part-{part:05d}": DATASET}


def measure(part: Part, params: AssembleStep) -> StageOutput:
    """Yield batches of SIZES of the rows that some fragments hold."""
    yield empty_batch(SIZES)
    for keys, sizes in row_sizes(part, params):
        yield pa.RecordBatch.from_arrays([pa.array(keys), pa.array(sizes)], schema=SIZES)
    return None


def file_cuts(sizes: Iterable[Fragment], params: AssembleStep) -> Cuts:
    """Return the order keys with which a new file begins, (files - 1,), ascending.

    Args:
        sizes: tables of SIZES.
        params: of the stage.
    """
    tables = [table.read([KEY, "bytes"]) for table in sizes]
    table = pa.concat_tables([SIZES.empty_table(), *tables])
    keys, row_bytes = (np.asarray(table.column(name)) for name in SIZES.names)
    order = np.argsort(keys, kind="stable")
    keys, ends = keys[order], np.cumsum(row_bytes[order])
    cuts: list[int] = []
    start, before = 0, 0
    while True:
        by_bytes = int(np.searchsorted(ends, before + params.bytes_per_file, "right"))
        stop = max(start + 1, min(by_bytes, start + params.rows_per_file))
        if stop >= len(keys):
            return np.array(cuts, np.uint64)
        cuts.append(int(keys[stop]))
        start, before = stop, int(ends[stop - 1])


def send(part: Part, params: AssembleStep, cuts: Cuts) -> Iterator[pa.Table]:
    """Yield the rows that some fragments hold, with the number of their file as KEY."""
    for batch in dataset_rows(part, params):
        keys = order_keys(to_ids(batch.column("image_id")), params)
        files = np.searchsorted(cuts, keys, "right").astype(np.uint64)
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
