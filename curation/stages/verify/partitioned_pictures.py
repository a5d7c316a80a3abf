"""Pictures when verify runs in parts: each travels from the fragment that gives it to its pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.fixed_bytes import bytes_of, fixed_bytes
from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.engine.exchange import KEY, group_keys
from curation.engine.sorted_arrays import positions_in, run_starts
from curation.engine.units import StageOutput, empty_batch
from curation.stages.verify.partitioned_pairs import (
    DIGEST_ROWS,
    ID,
    PICTURES,
    ROWS_PER_BATCH,
    new_pairs,
    range_of,
)
from curation.stages.verify.reduced_tables import describe_fragment, ids_of
from curation.store.fragment import Fragment

HASHES = 2**32
"""The rows of an image meet by the first 32 bits of its id, which is a hash."""
IMAGE_ROWS = pa.schema([("image", ID), ("fragment", pa.int32()), ("row", pa.int64())])
"""An image, the number of a fragment that has it, and its first row there."""
ENDS = pa.schema([("image", ID), ("range", pa.int32())])
"""An image, and a range with pairs of it."""
PLACED = pa.schema([*IMAGE_ROWS, ("range", pa.int32())])
"""An image, the first row that has it, and a range with pairs of it."""
NEEDED = pa.schema([("image", ID), ("fragment", pa.int32()), ("unit", pa.int32())])
"""An image, the fragment that gives its picture, and a unit that compares it."""


class Reduced(NamedTuple):
    """The reduced pictures of a fragment.

    Attributes:
        fragment: its number.
        tables: work tables of REDUCED.
    """

    fragment: int
    tables: list[Fragment]


# -- which fragment gives a picture -------------------------------------------------------------------


def read_image_rows(images: Sequence[Fragment], first: int) -> Iterator[pa.Table]:
    """Yield IMAGE_ROWS, keyed by image.

    Args:
        images: some fragments of `images`.
        first: number of the first of these fragments.
    """
    for number, fragment in enumerate(images, first):
        column = fragment.read(["image_id"]).column("image_id")
        rows = np.flatnonzero(column.is_valid().to_numpy())
        ids, at = np.unique(to_ids(column.drop_null()), return_index=True)
        places = [pa.array(np.full(len(ids), number, np.int32)), pa.array(rows[at])]
        table = pa.table([fixed_bytes(ids), *places], schema=IMAGE_ROWS)
        yield table.append_column(KEY, pa.array(range_of(ids, HASHES)))


def read_ends(pairs: Fragment, number: int) -> Iterator[pa.Table]:
    """Yield the ENDS of the pairs of a range, keyed by image.

    Args:
        pairs: the distinct pairs of a range.
        number: that of the range.
    """
    table = pairs.read()
    ids = np.unique(np.concatenate([bytes_of(table, name) for name in ("left", "right")]))
    ranges = pa.array(np.full(len(ids), number, np.int32))
    ends = pa.table([fixed_bytes(ids), ranges], schema=ENDS)
    yield ends.append_column(KEY, pa.array(range_of(ids, HASHES)))


def place_images(rows: pa.Table, ends: pa.Table) -> StageOutput:
    """Write which row gives the picture of each image: the first of the first fragment.

    Args:
        rows: all IMAGE_ROWS of some images.
        ends: all ENDS of these images.

    Yields:
        PLACED, without ends that no row has.
    """
    yield empty_batch(PLACED)
    ids, fragment, row = (_column(rows, name) for name in IMAGE_ROWS.names)
    order = np.lexsort((row, fragment, ids))
    first = order[run_starts(ids[order])]
    wanted, ranges = bytes_of(ends, "image"), _column(ends, "range")
    at, known = positions_in(wanted, ids[first])
    at = first[at[known]]
    columns = [ids[at], fragment[at], row[at], ranges[known]]
    yield _batch(columns, PLACED)
    return None


def write_by_fragment(placed: pa.Table) -> StageOutput:
    """Write the images that a group of fragments gives, sorted by fragment and row.

    Args:
        placed: all PLACED of the group.

    Yields:
        PLACED.

    Returns:
        `images`, how many the group gives, and `fragments`, those that give some.
    """
    fragment, row, ranges = (_column(placed, name) for name in ("fragment", "row", "range"))
    order = np.lexsort((ranges, row, fragment))
    yield empty_batch(PLACED)
    yield from placed.take(pa.array(order)).combine_chunks().to_batches(ROWS_PER_BATCH)
    images = int(run_starts(fragment[order], row[order]).sum())
    return {"images": images, "fragments": np.unique(fragment).tolist()}


def reduce_missing(
    images: Fragment, placed: Fragment, number: int, kept: list[Fragment], describe: bool
) -> StageOutput:
    """Reduce the images of a fragment that the work tables of the last run do not have.

    Args:
        images: a fragment of `images`.
        placed: the images that its group gives.
        number: that of the fragment.
        kept: work tables of the last run with its reduced images.
        describe: whether keypoints are stored too.

    Yields:
        Batches of REDUCED.
    """
    wanted = _of_fragment(placed, number)
    missing = ~np.isin(bytes_of(wanted, "image"), ids_of(kept))
    rows = np.unique(_column(wanted, "row")[missing])
    return (yield from describe_fragment(images, rows, describe))


# -- digests of pictures ------------------------------------------------------------------------------


def read_digests(placed: Fragment, reduced: Sequence[Reduced]) -> Iterator[pa.Table]:
    """Yield DIGEST_ROWS of images that can be decoded, keyed by each range with pairs of them.

    Args:
        placed: the images that a group of fragments gives.
        reduced: the reduced pictures of these fragments.
    """
    for number, tables in reduced:
        wanted = _of_fragment(placed, number)
        ids, digests = _digests(tables)
        at, known = positions_in(bytes_of(wanted, "image"), ids)
        at = at[known]
        fragment = np.full(len(at), number, np.int32)
        table = pa.Table.from_batches([_batch([ids[at], digests[at], fragment], DIGEST_ROWS)])
        keys = _column(wanted, "range")[known].astype(np.uint64)
        yield table.append_column(KEY, pa.array(keys))


def _digests(tables: Sequence[Fragment]) -> tuple[Ids, Ids]:
    """Return the images of work tables that can be decoded, sorted, and their digests."""
    ids, digests = [np.empty(0, "S32")], [np.empty(0, "S32")]
    for fragment in tables:
        table = fragment.read(["image_id", "digest"]).filter(pc.field("digest").is_valid())
        ids.append(to_ids(table.column("image_id")))
        digests.append(to_ids(table.column("digest")))
    distinct, first = np.unique(np.concatenate(ids), return_index=True)
    return distinct, np.concatenate(digests)[first]


# -- pictures of new pairs ----------------------------------------------------------------------------


def read_needed(plan: Fragment, first_unit: int, bounds: RowNumbers) -> Iterator[pa.Table]:
    """Yield NEEDED, keyed by the group of the fragment that gives the picture.

    Args:
        plan: the planned pairs of a range.
        first_unit: number of the first unit of the range among all units.
        bounds: of the groups of fragments, as `group_keys`.
    """
    for pairs, unit in new_pairs(plan, first_unit):
        for end in "ab":
            ids = fixed_bytes(to_ids(pairs.column(f"image_{end}")))
            columns = [ids, pairs.column(f"fragment_{end}"), pa.array(unit.astype(np.int32))]
            table = pa.table(columns, schema=NEEDED)
            yield table.append_column(KEY, group_keys(table, bounds))


def write_needed(needed: pa.Table) -> StageOutput:
    """Write which pictures of a group of fragments are compared, sorted by fragment.

    Args:
        needed: all NEEDED of the group.

    Yields:
        NEEDED, distinct.
    """
    image, fragment, unit = (_column(needed, name) for name in NEEDED.names)
    order = np.lexsort((unit, image, fragment))
    yield empty_batch(NEEDED)
    rows = order[run_starts(image[order], fragment[order], unit[order])]
    yield from needed.take(pa.array(rows)).combine_chunks().to_batches(ROWS_PER_BATCH)
    return None


def read_pictures(needed: Fragment, reduced: Sequence[Reduced]) -> Iterator[pa.Table]:
    """Yield PICTURES, keyed by each unit that compares them. Each picture is read once.

    Args:
        needed: which pictures of a group of fragments are compared.
        reduced: the reduced pictures of these fragments.
    """
    for number, tables in reduced:
        wanted = _of_fragment(needed, number)
        image, unit = bytes_of(wanted, "image"), _column(wanted, "unit")
        for fragment in tables:
            texts = np.unique(image).astype("U32").tolist()
            sent = np.zeros(len(image), bool)
            for table in fragment.row_groups_with("image_id", texts):
                pictures, ids = _pictures_of(table)
                at, known = positions_in(image, ids)
                sent |= known
                sending = pictures.take(pa.array(at[known]))
                yield sending.append_column(KEY, pa.array(unit[known].astype(np.uint64)))
            image, unit = image[~sent], unit[~sent]


def _pictures_of(table: pa.Table) -> tuple[pa.Table, Ids]:
    """Return PICTURES of a row group of REDUCED, and their ids, sorted."""
    ids = to_ids(table.column("image_id"))
    columns = [fixed_bytes(ids), *(table.column(name) for name in ("image", "keypoints"))]
    order = np.argsort(ids)
    return pa.table(columns, schema=PICTURES).take(pa.array(order)), ids[order]


# -- columns ------------------------------------------------------------------------------------------


def _of_fragment(rows: Fragment, number: int) -> pa.Table:
    """Return the rows of a work table, which is sorted by fragment, that are of one fragment."""
    schema = rows.schema()
    assert schema is not None
    tables = [schema.empty_table(), *rows.row_groups_between("fragment", number, number)]
    return pa.concat_tables(tables).filter(pc.field("fragment") == number).combine_chunks()


def _column(rows: pa.Table, name: str) -> npt.NDArray[np.generic]:
    is_id = rows.schema.field(name).type == ID
    return bytes_of(rows, name) if is_id else rows.column(name).to_numpy()


def _batch(columns: Sequence[npt.NDArray[np.generic]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        fixed_bytes(column) if field.type == ID else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
