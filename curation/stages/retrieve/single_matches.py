"""Matches if each pool image goes to one seed image, and each seed image gets at most k.

Each image goes to the most similar seed image that has fewer than k yet, as if all matches were taken
by descending similarity, then seed image, then image. A match is in the result whenever it is the best
one left of its image, and among the best k of its seed image: nothing before it can take their places.
Such matches are settled in rounds, by seed image and by image in turn, until the rest fits in one part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Bools
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask
from curation.engine.exchange_runner import ExchangeRunner, WorkTable
from curation.engine.sorted_arrays import run_starts
from curation.engine.units import StageOutput, empty_batch
from curation.stages.retrieve.claims import MATCHES
from curation.stages.retrieve.images import image_keys
from curation.store.fragment import Fragment

OPEN = pa.schema(
    [
        ("seed_image_id", pa.string()),
        ("image_id", pa.string()),
        ("similarity", pa.float32()),
        ("rank", pa.int32()),
        ("settled", pa.bool_()),
        ("left", pa.int32()),
        ("among_best", pa.bool_()),
    ]
)
"""Matches that are settled or may still be. `left`: images that the seed image may still get;
`among_best`: the match is among its best ones, as many as are left."""
ROWS_AT_ONCE = 65_536


def single_matches(
    matches: Sequence[Fragment],
    seed_set: str,
    ranks: tuple[int, int],
    runner: ExchangeRunner,
    parts: int,
    rows_per_part: int,
) -> list[WorkTable]:
    """Return tables of OPEN, in which the settled rows are the matches that remain.

    Args:
        matches: fragments of `matches`.
        seed_set: the set whose matches are meant.
        ranks: k, and the largest rank of a match that may be taken.
        runner: computes the parts.
        parts: number of parts.
        rows_per_part: number of open matches that are settled in one part.
    """
    k, largest = ranks
    arguments = {"seed_set": seed_set, "largest": largest}
    tasks = [MapTask(read_open, {"matches": fragment} | arguments) for fragment in matches]
    number = 0
    while True:
        label = f"matches of {seed_set}, round {number}"
        by_seed = _exchange(f"{label}, seed images", tasks, mark_best, {"k": k}, parts, runner)
        if sum(part.stats["open"] for part in by_seed) <= rows_per_part:
            tasks = [MapTask(read_rest, {"rows": part}) for part in by_seed]
            rest = _exchange(f"{label}, the rest", tasks, settle_rest, {}, 1, runner)
            return [*by_seed, *rest]
        tasks = [MapTask(read_by_image, {"rows": part}) for part in by_seed]
        by_image = _exchange(f"{label}, images", tasks, settle_best, {}, parts, runner)
        tasks = [MapTask(read_by_seed, {"rows": part}) for part in by_image]
        number += 1


def _exchange(
    label: str,
    tasks: Sequence[MapTask],
    function: Callable[..., StageOutput],
    arguments: Mapping[str, int],
    parts: int,
    runner: ExchangeRunner,
) -> Sequence[WorkTable]:
    rows = {"rows": ExchangeInput(OPEN, tasks)}
    return runner.exchange(Exchange(label, rows, function, parts, arguments))


def read_open(matches: Fragment, seed_set: str, largest: int) -> Iterator[pa.Table]:
    """Yield the matches of a seed set up to a rank as OPEN, keyed by the seed image."""
    columns = ["seed_set", *MATCHES.names[1:]]
    for batch in matches.batches(columns, rows=ROWS_AT_ONCE):
        rows = pa.Table.from_batches([batch])
        of_set = pc.equal(rows.column("seed_set"), seed_set)
        rows = rows.filter(pc.and_(of_set, pc.less_equal(rows.column("rank"), largest)))
        count = len(rows)
        open_columns = {name: rows.column(name) for name in OPEN.names[:4]}
        open_columns |= {"settled": np.zeros(count, bool), "left": np.zeros(count, np.int32)}
        open_columns["among_best"] = np.zeros(count, bool)
        yield _keyed(pa.table(open_columns, schema=OPEN), "seed_image_id")


def _keyed(rows: pa.Table, column: str) -> pa.Table:
    return rows.append_column(KEY, pa.array(image_keys(to_ids(rows.column(column)))))


def _batches(rows: WorkTable) -> Iterator[pa.Table]:
    for batch in rows.batches(rows=ROWS_AT_ONCE):
        yield pa.Table.from_batches([batch])


def read_by_image(rows: WorkTable) -> Iterator[pa.Table]:
    """Yield OPEN, keyed by the pool image."""
    for table in _batches(rows):
        yield _keyed(table, "image_id")


def read_by_seed(rows: WorkTable) -> Iterator[pa.Table]:
    """Yield OPEN, keyed by the seed image."""
    for table in _batches(rows):
        yield _keyed(table, "seed_image_id")


def read_rest(rows: WorkTable) -> Iterator[pa.Table]:
    """Yield the rows of OPEN that are not settled, for one part."""
    for table in _batches(rows):
        rest = table.filter(pc.invert(table.column("settled")))
        yield rest.append_column(KEY, pa.array(np.zeros(len(rest), np.uint64)))


def read_settled(rows: WorkTable, number: int) -> Iterator[pa.Table]:
    """Yield the settled rows as MATCHES with a number for `set`, keyed by the pool image."""
    for table in _batches(rows):
        settled = table.filter(table.column("settled")).select(MATCHES.names[1:])
        numbers = pa.array(np.full(len(settled), number, np.int16))
        yield _keyed(settled.add_column(0, "set", numbers), "image_id")


def _in_order(rows: pa.Table, column: str | None = None) -> pa.Table:
    """Return rows in the order in which matches are taken, or by a column of ids and then so."""
    ids = {name: to_ids(rows.column(name)) for name in ("image_id", "seed_image_id")}
    # lexsort sorts by the last key first.
    keys = [*ids.values(), -rows.column("similarity").to_numpy()]
    keys += [] if column is None else [ids[column]]
    return rows.take(pa.array(np.lexsort(keys))).combine_chunks()


def mark_best(rows: pa.Table, k: int) -> StageOutput:
    """Mark the best open matches of each seed image, as many as it may still get.

    Args:
        rows: all OPEN of some seed images.
        k: number of images that each may get.

    Yields:
        OPEN, without matches of seed images that have k settled ones.

    Returns:
        `open`: number of matches that are not settled.
    """
    rows = _in_order(rows, "seed_image_id")
    seeds, settled = to_ids(rows.column("seed_image_id")), _bools(rows, "settled")
    starts = np.flatnonzero(run_starts(seeds))
    sizes = np.diff(np.append(starts, len(seeds)))
    settled_of = np.add.reduceat(settled.astype(np.int32), starts) if len(starts) else sizes
    left = np.repeat(k - settled_of, sizes)
    # A match has the rank among those of its seed image that are not settled.
    earlier: npt.NDArray[np.int64] = np.cumsum(~settled) - ~settled
    rank: npt.NDArray[np.int64] = earlier - np.repeat(earlier[starts], sizes)
    rows = _with(rows, "left", left.astype(np.int32))
    rows = _with(rows, "among_best", ~settled & (rank < left))
    kept = settled | (left > 0)
    yield empty_batch(OPEN)
    yield from rows.filter(pa.array(kept)).to_batches(ROWS_AT_ONCE)
    return {"open": int((kept & ~settled).sum())}


def settle_best(rows: pa.Table) -> StageOutput:
    """Settle the best match of each image if it is among the best of its seed image too.

    Args:
        rows: all OPEN of some images.

    Yields:
        OPEN, without the other matches of settled images.
    """
    rows = _in_order(rows, "image_id")
    images, settled = to_ids(rows.column("image_id")), _bools(rows, "settled")
    best = run_starts(images)
    settled = settled | (best & _bools(rows, "among_best"))
    starts = np.flatnonzero(best)
    sizes = np.diff(np.append(starts, len(images)))
    has_one = np.logical_or.reduceat(settled, starts) if len(starts) else settled
    rows = _with(rows, "settled", settled)
    yield empty_batch(OPEN)
    yield from rows.filter(pa.array(settled | ~np.repeat(has_one, sizes))).to_batches(ROWS_AT_ONCE)
    return None


def settle_rest(rows: pa.Table) -> StageOutput:
    """Take all open matches one after another.

    Args:
        rows: all OPEN that are not settled.

    Yields:
        OPEN; every row is settled.
    """
    rows = _in_order(rows)
    seeds, images = (
        np.unique(to_ids(rows.column(name)), return_inverse=True)[1]
        for name in ("seed_image_id", "image_id")
    )
    left = np.zeros(seeds.max(initial=-1) + 1, np.int64)
    left[seeds] = rows.column("left").to_numpy()
    is_taken = np.zeros(images.max(initial=-1) + 1, bool)
    settled = np.zeros(len(rows), bool)
    for row, (seed, image) in enumerate(zip(seeds.tolist(), images.tolist(), strict=True)):
        if left[seed] and not is_taken[image]:
            left[seed] -= 1
            is_taken[image] = settled[row] = True
    yield empty_batch(OPEN)
    yield from _with(rows, "settled", settled).filter(pa.array(settled)).to_batches(ROWS_AT_ONCE)
    return None


def _bools(rows: pa.Table, column: str) -> Bools:
    return np.asarray(rows.column(column), bool)


def _with(rows: pa.Table, column: str, values: npt.NDArray[np.generic]) -> pa.Table:
    return rows.set_column(OPEN.names.index(column), column, pa.array(values))
