"""Pairs when verify runs in parts: those of a range of ids meet their digests and earlier rows.

A range holds the pairs whose smaller id lies in it. The pairs of all ranges, one after another, are in
order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.fixed_bytes import bytes_of, fixed_bytes
from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.engine.exchange import KEY
from curation.engine.sorted_arrays import positions_in
from curation.engine.units import StageOutput, empty_batch
from curation.stages.verify.measured_pairs import DIGESTS, compared_rows, measured_schema
from curation.stages.verify.pairs import distinct, ends_of, joined, similar_pairs, text_of
from curation.stages.verify.params import VerifyStep
from curation.store.fragment import Fragment

PAIRS_PER_UNIT = 16_384
"""Pairs that a worker compares at once. Their pictures take up to 400 MB, with keypoints 1.2 GB, and
the same again while they are received."""
ROWS_PER_BATCH = 65_536
ID = pa.binary(32)
PAIRS = pa.schema([("left", ID), ("right", ID)])
DIGEST_ROWS = pa.schema([("image", ID), ("digest", ID), ("fragment", pa.int32())])
"""An image, the digest of its reduced picture, and the number of the fragment that gives it."""
NEW_PAIRS = pa.schema([("left", ID), ("right", ID), ("digest_a", ID), ("digest_b", ID)])
PICTURES = pa.schema([("image", ID), ("picture", pa.binary()), ("keypoints", pa.binary())])
NEW_PAIRS_FROM = ("image_a", "image_b", *DIGESTS)
"""The columns of planned pairs from which NEW_PAIRS are made."""
_PLACES = ("fragment_a", "fragment_b", "unit")


def plan_schema() -> pa.Schema:
    """Return the columns of planned pairs: those of measured pairs, and where a new pair is compared.

    A pair that the last run has measured has its measures, and no unit. Another one has no measures,
    the fragments that give its two pictures, and the number of its unit within the range.
    """
    measured = [pa.field(field.name, field.type) for field in measured_schema()]
    return pa.schema([*measured, *(pa.field(name, pa.int32()) for name in _PLACES)])


def range_of(ids: Ids, ranges: int) -> npt.NDArray[np.uint64]:
    """Return the range of each image id, shape (n,); ids of a lower range are smaller.

    Ids are hashes, so ranges have about the same number of them.
    """
    digits = np.ascontiguousarray(ids, "S32").tobytes().decode()
    first = np.frombuffer(bytes.fromhex(digits), ">u4")[::4].astype(np.uint64)
    return first * np.uint64(ranges) >> np.uint64(32)


# -- distinct pairs of a range ------------------------------------------------------------------------


def read_pairs(neighbours: Fragment, params: VerifyStep, ranges: int) -> Iterator[pa.Table]:
    """Yield PAIRS to compare, keyed by their range.

    Args:
        neighbours: a fragment of `neighbours`.
        params: of the stage.
        ranges: number of ranges.
    """
    for keys in similar_pairs(neighbours, params):
        left, right = ends_of(keys).T
        table = pa.table([fixed_bytes(left), fixed_bytes(right)], schema=PAIRS)
        yield table.append_column(KEY, pa.array(range_of(left, ranges)))


def write_distinct_pairs(pairs: pa.Table) -> StageOutput:
    """Write the distinct pairs of a range, sorted.

    Args:
        pairs: all PAIRS of a range.

    Yields:
        PAIRS.
    """
    keys = distinct(np.column_stack([bytes_of(pairs, "left"), bytes_of(pairs, "right")]))
    yield empty_batch(PAIRS)
    for start in range(0, len(keys), ROWS_PER_BATCH):
        ends = ends_of(keys[start : start + ROWS_PER_BATCH])
        yield pa.RecordBatch.from_arrays([fixed_bytes(end) for end in ends.T], schema=PAIRS)
    return None


# -- which pairs of a range are new -------------------------------------------------------------------


def read_pairs_of_range(pairs: Fragment, number: int) -> Iterator[pa.Table]:
    """Yield the PAIRS of a range, keyed by its number."""
    for batch in pairs.batches(rows=ROWS_PER_BATCH):
        table = pa.Table.from_batches([batch])
        yield table.append_column(KEY, _repeated(number, len(table)))


def read_measured(measured: Fragment, ranges: int) -> Iterator[pa.Table]:
    """Yield the rows of a work table of the last run, keyed by their range."""
    schema = measured_schema()
    for batch in measured.batches(schema.names, rows=ROWS_PER_BATCH):
        table = pa.Table.from_batches([batch]).cast(schema)
        yield table.append_column(KEY, pa.array(range_of(to_ids(table.column("image_a")), ranges)))


def plan_pairs(pairs: pa.Table, digests: pa.Table, measured: pa.Table) -> StageOutput:
    """Write the pairs of a range that can be compared, sorted, and say which are new.

    Args:
        pairs: all PAIRS of a range, sorted.
        digests: DIGEST_ROWS of their images that can be decoded.
        measured: rows that the last run has measured in this range.

    Yields:
        Rows of `plan_schema`.

    Returns:
        `pairs`, how many are in the range, and `units`, the number of units that compare the new ones.
    """
    schema = plan_schema()
    yield empty_batch(schema)
    known = _Digests(digests)
    left, right = bytes_of(pairs, "left"), bytes_of(pairs, "right")
    readable = known.has(left) & known.has(right)
    left, right = left[readable], right[readable]
    of_pair = [known.digest(left), known.digest(right)]
    positions, rows = _measured_before(joined(left, right, *of_pair), measured)
    is_new = np.ones(len(left), bool)
    is_new[positions] = False
    new = np.flatnonzero(is_new)
    columns = [left[new], right[new], *(digest[new] for digest in of_pair)]
    unit = np.arange(len(new), dtype=np.int32) // PAIRS_PER_UNIT
    places = [known.fragment(left[new]), known.fragment(right[new]), unit]
    planned = pa.table(
        [*map(from_ids, columns), *map(pa.array, places)],
        names=[*NEW_PAIRS_FROM, *_PLACES],
    )
    both = pa.concat_tables([rows, planned], promote_options="default")
    order = np.argsort(np.concatenate([positions, new]))
    in_order = both.take(pa.array(order)).select(schema.names).cast(schema).combine_chunks()
    yield from in_order.to_batches(ROWS_PER_BATCH)
    return {"pairs": len(pairs), "units": -(-len(new) // PAIRS_PER_UNIT)}


class _Digests:
    """The digests and fragments of images, by their ids."""

    def __init__(self, digests: pa.Table) -> None:
        ids, first = np.unique(bytes_of(digests, "image"), return_index=True)
        self._ids, self._digests = ids, bytes_of(digests, "digest")[first]
        self._fragments = digests.column("fragment").to_numpy()[first]

    def has(self, ids: Ids) -> npt.NDArray[np.bool_]:
        return positions_in(ids, self._ids)[1]

    def digest(self, ids: Ids) -> Ids:
        return self._digests[positions_in(ids, self._ids)[0]]

    def fragment(self, ids: Ids) -> npt.NDArray[np.int32]:
        return np.asarray(self._fragments[positions_in(ids, self._ids)[0]], np.int32)


def _measured_before(keys: Ids, measured: pa.Table) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """Return the positions of pairs that the last run has measured, and their rows."""
    row_keys = joined(*(to_ids(measured.column(name)) for name in NEW_PAIRS_FROM))
    positions, known = positions_in(row_keys, keys)
    return positions[known], measured.filter(pa.array(known))


def _repeated(number: int, count: int) -> pa.Array:
    return pa.array(np.full(count, number, np.uint64))


# -- comparing a unit ---------------------------------------------------------------------------------


def read_new_pairs(plan: Fragment, first_unit: int) -> Iterator[pa.Table]:
    """Yield NEW_PAIRS of a range, keyed by their unit.

    Args:
        plan: the planned pairs of a range.
        first_unit: number of the first unit of the range among all units.
    """
    for table, unit in new_pairs(plan, first_unit):
        columns = [fixed_bytes(to_ids(table.column(name))) for name in NEW_PAIRS_FROM]
        yield pa.table(columns, schema=NEW_PAIRS).append_column(KEY, pa.array(unit))


def new_pairs(plan: Fragment, first_unit: int) -> Iterator[tuple[pa.Table, npt.NDArray[np.uint64]]]:
    """Yield planned pairs that are new, with the number of their unit among all units."""
    for batch in plan.batches([*NEW_PAIRS_FROM, *_PLACES], rows=ROWS_PER_BATCH):
        table = pa.Table.from_batches([batch])
        table = table.filter(table.column("unit").is_valid())
        unit = table.column("unit").to_numpy().astype(np.uint64) + np.uint64(first_unit)
        yield table, unit


def compare_unit(pairs: pa.Table, pictures: pa.Table) -> StageOutput:
    """Compare the pairs of a unit.

    Args:
        pairs: NEW_PAIRS, sorted.
        pictures: PICTURES of their images.

    Yields:
        Rows of `measured_schema`.
    """
    columns = [bytes_of(pairs, name) for name in NEW_PAIRS.names]
    contents = (pictures.column(name) for name in ("picture", "keypoints"))
    stored = _Stored(bytes_of(pictures, "image"), *contents)
    rows = compared_rows((columns[0], columns[1]), (columns[2], columns[3]), stored)
    yield empty_batch(measured_schema())
    yield from rows.combine_chunks().to_batches()
    return None


class _Stored(Mapping[bytes, Any]):
    """Reduced pictures and keypoints by image; a picture is copied when it is looked up."""

    def __init__(self, ids: Ids, pictures: pa.ChunkedArray, keypoints: pa.ChunkedArray) -> None:
        self._rows = {image: row for row, image in enumerate(ids.tolist())}
        self._columns = pictures, keypoints

    def __getitem__(self, image: bytes) -> Any:
        row = self._rows[image]
        return tuple(column[row].as_py() for column in self._columns)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def merge_measured(plan: Fragment, compared: Sequence[Fragment]) -> StageOutput:
    """Write the measured pairs of a range, sorted: those of the last run, and those compared now.

    Args:
        plan: the planned pairs of the range.
        compared: the work tables of its units.

    Yields:
        Rows of `measured_schema`.

    Returns:
        `first`, the key of the first pair, by which the next run finds the work table.
    """
    schema = measured_schema()
    planned = plan.read([*schema.names, "unit"])
    known = planned.filter(planned.column("unit").is_null()).select(schema.names).cast(schema)
    tables = chain([known], (unit.read(schema.names).cast(schema) for unit in compared))
    rows = pa.concat_tables(list(tables))
    keys = joined(*(to_ids(rows.column(name)) for name in ("image_a", "image_b")))
    order = np.argsort(keys)
    yield empty_batch(schema)
    yield from rows.take(pa.array(order)).combine_chunks().to_batches(ROWS_PER_BATCH)
    return {"first": text_of(keys[order[0]])} if len(keys) else {}
