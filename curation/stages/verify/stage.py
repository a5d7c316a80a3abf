"""verify: near pairs looked at pixel by pixel. No cut-off but the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.verify.compare import compare
from curation.stages.verify.params import VerifyStep
from curation.stages.verify.picture import Picture, reduced

LOOKED_AT = ("near", "perceptual")
"""Methods whose pairs may be copies; likeness of meaning is not to be seen in pixels."""
READ = ["method", "role_a", "image_a", "role_b", "image_b", "similarity", "rank"]
PAIRS = 1_000
"""Pairs that one task compares."""
PICTURES = 16
"""Reduced pictures of a row group: a task reads groups, and wants few pictures of most."""
KEPT = 500
"""Pictures that a task holds with all that comparing made of them, about half a megabyte each."""


def verify(
    images: Table, neighbours: Table, *, params: VerifyStep, context: Context
) -> StageOutput:
    """Compare the pictures of each near pair above the floor, whatever their roles.

    Yields:
        ("all", batch of `verified`), a row for each pair of images, once.

    Returns:
        How many pairs were looked at, and how many had a picture that could not be read.
    """
    yield "all", empty_batch(contract("verified").arrow_schema())
    if params.floor is None:
        return {"pairs": 0}
    left, right = _pairs(neighbours, params.floor, params.k)
    pictures = _reduced(images, np.unique(np.concatenate([left, right])), context)
    items = {}
    for start in range(0, len(left), PAIRS):
        pairs = {"left": left[start : start + PAIRS], "right": right[start : start + PAIRS]}
        own = pictures.holding(np.concatenate(list(pairs.values())))
        items[f"pairs-{start:010d}"] = {"pictures": own} | pairs
    done = 0
    for record in context.compute("compare", compare_pairs, items).values():
        for batch in Fragment(context.store, record).batches(rows=65_536):
            done += batch.num_rows
            yield "all", batch
    return {"pairs": len(left), "unreadable": len(left) - done}


def _pairs(neighbours: Table, floor: float, k: int) -> tuple[Ids, Ids]:
    """Return the pairs to look at, the smaller id first, sorted."""
    found = [np.empty((0, 2), "S32")]
    for fragment in neighbours.fragments.values():
        for batch in fragment.batches(READ, rows=2**20):
            table = pa.Table.from_batches([batch])
            near = pc.or_(
                pc.greater_equal(table.column("similarity"), floor),
                pc.equal(table.column("method"), "perceptual"),
            )
            wanted = pc.is_in(table.column("method"), pa.array(LOOKED_AT))
            # A held-out picture or a seed may have many copies, of which none forms a component.
            across = pc.not_equal(table.column("role_a"), table.column("role_b"))
            best = pc.or_(across, pc.less_equal(table.column("rank"), k))
            table = table.filter(pc.and_(pc.and_(near, best), wanted))
            ends = np.column_stack([to_ids(table.column(f"image_{end}")) for end in "ab"])
            found.append(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1))
    pairs = np.unique(np.ascontiguousarray(np.concatenate(found)).view("S64").ravel())
    both = pairs.view("S32").reshape(-1, 2) if len(pairs) else np.empty((0, 2), "S32")
    return both[:, 0].copy(), both[:, 1].copy()


@dataclass(frozen=True)
class Reduced:
    """Work tables of reduced pictures: that of `ids[i]`, of all sorted ids, is number `table[i]`."""

    ids: Ids
    table: npt.NDArray[np.int32]
    tables: list[Fragment]

    def holding(self, ids: Ids) -> list[Fragment]:
        """Return the tables that hold some pictures."""
        numbers = np.unique(self.table[np.searchsorted(self.ids, ids)])
        return [self.tables[number] for number in numbers.tolist()]


def _reduced(images: Table, wanted: Ids, context: Context) -> Reduced:
    """Return each wanted picture at the size that is compared."""
    table = np.full(len(wanted), -1, np.int32)
    items: dict[str, dict[str, Any]] = {}
    for name, fragment in images.fragments.items() if len(wanted) else ():
        ids = to_ids(pc.fill_null(fragment.read(["image_id"]).column("image_id"), ""))
        place = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
        rows = np.flatnonzero((wanted[place] == ids) & (table[place] < 0))
        own, first = np.unique(place[rows], return_index=True)
        if len(own):
            table[own] = len(items)
            items[name] = {"images": fragment, "rows": np.sort(rows[first])}
    records = context.compute("reduce", reduce_pictures, items, batch_groups=True)
    return Reduced(wanted, table, [Fragment(context.store, records[name]) for name in items])


def reduce_pictures(images: Fragment, rows: npt.NDArray[np.int64]) -> StageOutput:
    """Write some pictures of a fragment reduced, by image_id."""
    found: dict[str, bytes] = {}
    start = 0
    for batch in images.batches(["image_id", "image"], rows=256):
        own = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        start += batch.num_rows
        for row in batch.take(pa.array(own)).to_pylist():
            small = reduced(row["image"])
            if small is not None:
                found[row["image_id"]] = small
    schema = pa.schema([("image_id", pa.string()), ("image", pa.binary())])
    ids = sorted(found)
    for first in range(0, len(ids), PICTURES):
        own_ids = ids[first : first + PICTURES]
        columns = [pa.array(own_ids), pa.array([found[i] for i in own_ids], pa.binary())]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
    return None


def compare_pairs(pictures: Sequence[Fragment], left: Ids, right: Ids) -> StageOutput:
    """Compare pairs of images, in the order given; pairs with an unreadable picture are left out."""
    # A task is one of many: threads of its own would only wait for those of others.
    cv2.setNumThreads(1)
    encoded = _read(pictures, np.unique(np.concatenate([left, right])))

    @lru_cache(maxsize=KEPT)
    def picture(image: bytes) -> Picture:
        return Picture.of(encoded[image])

    rows: list[dict[str, Any]] = []
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        if a in encoded and b in encoded:
            found = asdict(compare(picture(a), picture(b)))
            rows.append({"image_a": a.decode(), "image_b": b.decode()} | found)
    yield pa.RecordBatch.from_pylist(rows, schema=contract("verified").arrow_schema())
    return None


def _read(pictures: Sequence[Fragment], wanted: Ids) -> Mapping[bytes, bytes]:
    """Return the reduced pictures of some images."""
    found: dict[bytes, bytes] = {}
    for fragment in pictures:
        for table in fragment.row_groups_with("image_id", wanted.astype("U32").tolist()):
            ids = table.column("image_id").to_pylist()
            found.update(
                zip((i.encode() for i in ids), table.column("image").to_pylist(), strict=True)
            )
    return {image: found[image] for image in wanted.tolist() if image in found}
