"""verify: compares the pixels of near pairs. Its only threshold is the floor."""

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
from curation.engine.sorted_arrays import positions_in
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.verify.compare import compare
from curation.stages.verify.params import VerifyStep
from curation.stages.verify.reduced_image import ReducedImage, reduce_image
from curation.store.fragment import Fragment

VERIFIED_METHODS = ("near", "perceptual")
"""Methods whose pairs are compared. Pixels cannot confirm semantic similarity."""
NEIGHBOUR_COLUMNS = ["method", "role_a", "image_a", "role_b", "image_b", "similarity", "rank"]
PAIRS_PER_TASK = 1_000
IMAGES_PER_ROW_GROUP = 16
"""Reduced images in a row group. Tasks read whole row groups, and need few images of most files."""
CACHED_IMAGES = 500
"""Decoded images that a task keeps with their keypoints, about half a megabyte each."""


def verify(
    images: Table, neighbours: Table, *, params: VerifyStep, context: Context
) -> StageOutput:
    """Compare the images of each near pair above the floor, whatever their roles.

    Yields:
        ("all", batch of `verified`), one row for each pair of images.

    Returns:
        `pairs`, the number of pairs to compare, and `unreadable`, how many of them have an image that
        cannot be decoded.
    """
    yield "all", empty_batch(contract("verified").arrow_schema())
    if params.floor is None:
        return {"pairs": 0}
    left, right = _pairs_to_compare(neighbours, params.floor, params.k)
    reduced = _reduce_images(images, np.unique(np.concatenate([left, right])), context)
    items = {}
    for start in range(0, len(left), PAIRS_PER_TASK):
        part = slice(start, start + PAIRS_PER_TASK)
        fragments = reduced.fragments_with(np.concatenate([left[part], right[part]]))
        items[f"pairs-{start:010d}"] = {
            "reduced": fragments,
            "left": left[part],
            "right": right[part],
        }
    compared = 0
    for record in context.compute("compare", compare_pairs, items).values():
        for batch in Fragment(context.store, record).batches(rows=65_536):
            compared += batch.num_rows
            yield "all", batch
    return {"pairs": len(left), "unreadable": len(left) - compared}


def _pairs_to_compare(neighbours: Table, floor: float, k: int) -> tuple[Ids, Ids]:
    """Return the distinct pairs to compare, the smaller id first, sorted."""
    parts = [np.empty((0, 2), "S32")]
    for fragment in neighbours.fragments.values():
        for batch in fragment.batches(NEIGHBOUR_COLUMNS, rows=2**20):
            table = pa.Table.from_batches([batch])
            similar = pc.or_(
                pc.greater_equal(table.column("similarity"), floor),
                pc.equal(table.column("method"), "perceptual"),
            )
            verified = pc.is_in(table.column("method"), pa.array(VERIFIED_METHODS))
            # A held-out or seed image may have many copies, which need not be linked with each other.
            across_roles = pc.not_equal(table.column("role_a"), table.column("role_b"))
            nearest = pc.or_(across_roles, pc.less_equal(table.column("rank"), k))
            table = table.filter(pc.and_(pc.and_(similar, nearest), verified))
            ends = np.column_stack([to_ids(table.column(f"image_{end}")) for end in "ab"])
            parts.append(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1))
    keys = np.unique(np.ascontiguousarray(np.concatenate(parts)).view("S64").ravel())
    pairs = keys.view("S32").reshape(-1, 2) if len(keys) else np.empty((0, 2), "S32")
    return pairs[:, 0].copy(), pairs[:, 1].copy()


@dataclass(frozen=True)
class ReducedImages:
    """Reduced images in work tables.

    Attributes:
        ids: image ids, sorted, shape (n,).
        fragment: number of the work table that has each image, shape (n,).
        fragments: the work tables.
    """

    ids: Ids
    fragment: npt.NDArray[np.int32]
    fragments: list[Fragment]

    def fragments_with(self, ids: Ids) -> list[Fragment]:
        """Return the work tables that have some of the images."""
        numbers = np.unique(self.fragment[np.searchsorted(self.ids, ids)])
        return [self.fragments[number] for number in numbers.tolist()]


def _reduce_images(images: Table, ids: Ids, context: Context) -> ReducedImages:
    """Reduce images to the size that is compared.

    Args:
        images: the table `images`.
        ids: sorted ids of the images to reduce.
        context: where workers run.
    """
    fragment_number = np.full(len(ids), -1, np.int32)
    items: dict[str, dict[str, Any]] = {}
    for name, fragment in images.fragments.items() if len(ids) else ():
        row_ids = to_ids(pc.fill_null(fragment.read(["image_id"]).column("image_id"), ""))
        positions, known = positions_in(row_ids, ids)
        rows = np.flatnonzero(known & (fragment_number[positions] < 0))
        image, first = np.unique(positions[rows], return_index=True)
        if len(image):
            fragment_number[image] = len(items)
            items[name] = {"images": fragment, "rows": np.sort(rows[first])}
    records = context.compute("reduce", reduce_fragment, items, batch_groups=True)
    fragments = [Fragment(context.store, records[name]) for name in items]
    return ReducedImages(ids, fragment_number, fragments)


def reduce_fragment(images: Fragment, rows: npt.NDArray[np.int64]) -> StageOutput:
    """Write some images of a fragment at the size that is compared, sorted by image id.

    Images that cannot be decoded are left out.

    Args:
        images: a fragment of `images`.
        rows: sorted numbers of the rows to reduce.

    Yields:
        Batches with the columns `image_id` and `image` (JPEG).
    """
    reduced: dict[str, bytes] = {}
    start = 0
    for batch in images.batches(["image_id", "image"], rows=256):
        in_batch = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        start += batch.num_rows
        for row in batch.take(pa.array(in_batch)).to_pylist():
            small = reduce_image(row["image"])
            if small is not None:
                reduced[row["image_id"]] = small
    schema = pa.schema([("image_id", pa.string()), ("image", pa.binary())])
    ids = sorted(reduced)
    for first in range(0, len(ids), IMAGES_PER_ROW_GROUP):
        group = ids[first : first + IMAGES_PER_ROW_GROUP]
        columns = [pa.array(group), pa.array([reduced[i] for i in group], pa.binary())]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
    return None


def compare_pairs(reduced: Sequence[Fragment], left: Ids, right: Ids) -> StageOutput:
    """Compare pairs of images, in their order. Pairs with an image that is not there are left out.

    Args:
        reduced: work tables of `reduce_fragment`.
        left: one image of each pair, shape (n,).
        right: the other image, shape (n,).

    Yields:
        A batch of `verified`.
    """
    # Many tasks run at once: more threads in each of them would only compete for the same cores.
    cv2.setNumThreads(1)
    encoded = _read_images(reduced, np.unique(np.concatenate([left, right])))

    @lru_cache(maxsize=CACHED_IMAGES)
    def decode(image_id: bytes) -> ReducedImage:
        return ReducedImage.of(encoded[image_id])

    rows: list[dict[str, Any]] = []
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        if a in encoded and b in encoded:
            measures = asdict(compare(decode(a), decode(b)))
            rows.append({"image_a": a.decode(), "image_b": b.decode()} | measures)
    yield pa.RecordBatch.from_pylist(rows, schema=contract("verified").arrow_schema())
    return None


def _read_images(reduced: Sequence[Fragment], ids: Ids) -> Mapping[bytes, bytes]:
    """Return the reduced images of some ids."""
    images: dict[bytes, bytes] = {}
    for fragment in reduced:
        for table in fragment.row_groups_with("image_id", ids.astype("U32").tolist()):
            table_ids = (image_id.encode() for image_id in table.column("image_id").to_pylist())
            images.update(zip(table_ids, table.column("image").to_pylist(), strict=True))
    return {image_id: images[image_id] for image_id in ids.tolist() if image_id in images}
