"""Reduced images in work tables. What the last run of the step has reduced is not reduced again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.engine.context import Context
from curation.engine.sorted_arrays import positions_in
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.verify.reduced_image import ReducedImage, pack_keypoints, reduce_image
from curation.store.fragment import Fragment

IMAGES_PER_ROW_GROUP = 16
"""Reduced images in a row group. Tasks read whole row groups, and need few images of most files."""
KEPT = "described"
"""The name under which the work tables are kept for the next run."""
MAX_PARTS = 8
"""Work tables of a fragment from which all its images are reduced again into one."""
DESCRIBED_IMAGES = 250_000
"""Number of images up to which their keypoints are stored too, about 24 KiB for each. Every pair needs
them, and they take longer than the comparison; those of more images would take too much room."""
REDUCED = pa.schema(
    [
        ("image_id", pa.string()),
        ("digest", pa.string()),
        ("image", pa.binary()),
        ("keypoints", pa.binary()),
    ]
)
"""A reduced image as JPEG, with the first 32 digits of its SHA-256; both null if the image cannot be
decoded. Then its keypoints, as `pack_keypoints` returns them; null if they are not stored."""


@dataclass(frozen=True)
class ReducedImages:
    """Reduced images in work tables.

    Attributes:
        ids: image ids, sorted, shape (n,).
        digests: the digest of each reduced image, shape (n,); empty if the image cannot be decoded.
        part: number of the work table that has each image, shape (n,).
        parts: the work tables.
    """

    ids: Ids
    digests: Ids
    part: npt.NDArray[np.int32]
    parts: list[Fragment]


class _Wanted(NamedTuple):
    """The images that are taken from a fragment: their positions among all ids, and their rows."""

    images: RowNumbers
    rows: RowNumbers


def reduce_images(images: Table, ids: Ids, context: Context) -> ReducedImages:
    """Reduce images to the size that is compared.

    A fragment whose content is that of the last run keeps its work tables; only images that they do not
    have are reduced.

    Args:
        images: the table `images`.
        ids: sorted ids of the images to reduce.
        context: where workers run.
    """
    kept = context.kept_tables(KEPT) if len(ids) else {}
    parts: dict[str, list[Fragment]] = {}
    items: dict[str, dict[str, Any]] = {}
    for name, wanted in _wanted(images, ids):
        fragment = images.fragments[name]
        parts[name] = kept.get(fragment.content, [])
        missing = ~np.isin(ids[wanted.images], ids_of(parts[name]))
        if missing.any():
            if len(parts[name]) >= MAX_PARTS:
                parts[name], missing = [], np.ones(len(missing), bool)
            items[name] = {
                "images": fragment,
                "rows": np.sort(wanted.rows[missing]),
                "describe": are_described(len(ids)),
            }
    added = context.compute("reduce", describe_fragment, items, batch_groups=True)
    for name, table in added.items():
        parts[name] = [*parts[name], table]
    context.keep_tables(KEPT, {images.fragments[name].content: parts[name] for name in parts})
    return _gathered(ids, parts)


def are_described(images: int) -> bool:
    """Whether the keypoints of so many images are stored."""
    return images <= DESCRIBED_IMAGES


def _wanted(images: Table, ids: Ids) -> Iterator[tuple[str, _Wanted]]:
    """Yield the fragments that have some of the images. The first that has an image gives it."""
    is_taken = np.zeros(len(ids), bool)
    for name, fragment in images.fragments.items() if len(ids) else ():
        row_ids = to_ids(pc.fill_null(fragment.read(["image_id"]).column("image_id"), ""))
        positions, known = positions_in(row_ids, ids)
        rows = np.flatnonzero(known & ~is_taken[positions])
        image, first = np.unique(positions[rows], return_index=True)
        if len(image):
            is_taken[image] = True
            yield name, _Wanted(image, rows[first])


def ids_of(parts: list[Fragment]) -> Ids:
    """Return the images that work tables of REDUCED have, in any order."""
    columns = [to_ids(part.read(["image_id"]).column("image_id")) for part in parts]
    return np.concatenate([np.empty(0, "S32"), *columns])


def _gathered(ids: Ids, parts_by_fragment: Mapping[str, list[Fragment]]) -> ReducedImages:
    """Return the reduced images. The first work table that has one is of the fragment that gives it."""
    reduced = ReducedImages(ids, np.zeros(len(ids), "S32"), np.full(len(ids), -1, np.int32), [])
    for parts in parts_by_fragment.values():
        for part in parts:
            table = part.read(["image_id", "digest"])
            positions, known = positions_in(to_ids(table.column("image_id")), ids)
            known &= reduced.part[positions] < 0
            digests = to_ids(pc.fill_null(table.column("digest"), ""))
            reduced.digests[positions[known]] = digests[known]
            reduced.part[positions[known]] = len(reduced.parts)
            reduced.parts.append(part)
    return reduced


def describe_fragment(images: Fragment, rows: RowNumbers, describe: bool) -> StageOutput:
    """Write some images of a fragment at the size that is compared, sorted by image id.

    Args:
        images: a fragment of `images`.
        rows: sorted numbers of the rows to reduce.
        describe: whether keypoints are stored too.

    Yields:
        Batches of REDUCED.
    """
    # Many tasks run at once: more threads in each of them would only compete for the same cores.
    cv2.setNumThreads(1)
    reduced: dict[str, bytes | None] = {}
    start = 0
    for batch in images.batches(["image_id", "image"], rows=256):
        in_batch = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        start += batch.num_rows
        for row in batch.take(pa.array(in_batch)).to_pylist():
            reduced[row["image_id"]] = reduce_image(row["image"])
    ids = sorted(reduced)
    for first in range(0, len(ids), IMAGES_PER_ROW_GROUP):
        group = ids[first : first + IMAGES_PER_ROW_GROUP]
        yield reduced_batch(group, [reduced[image_id] for image_id in group], describe)
    return None


def reduced_batch(ids: list[str], files: list[bytes | None], describe: bool) -> pa.RecordBatch:
    """Return rows of REDUCED.

    Args:
        ids: image ids.
        files: what `reduce_image` returned for each.
        describe: whether they have keypoints.
    """
    columns = [
        pa.array(ids, pa.string()),
        pa.array([_digest(file) for file in files], pa.string()),
        pa.array(files, pa.binary()),
        pa.array([_described(file) if describe else None for file in files], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=REDUCED)


def _described(image: bytes | None) -> bytes | None:
    return None if image is None else pack_keypoints(ReducedImage.of(image).grey)


def _digest(image: bytes | None) -> str | None:
    return None if image is None else sha256(image).hexdigest()[:32]
