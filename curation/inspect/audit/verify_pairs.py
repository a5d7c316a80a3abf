"""Compares pairs of images pixel by pixel, as stage verify does, and judges them by dedup's bounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.algorithms.arrays.vectors import Bools
from curation.inspect.audit.copies import Detections
from curation.inspect.audit.pool import Pool, Sample
from curation.progress import ProgressBar
from curation.stages.dedup.agreement import MEASURED, agrees
from curation.stages.dedup.params import Verify
from curation.stages.verify.compare import Agreement, compare
from curation.stages.verify.reduced_image import ReducedImage, reduce_image

CACHE_SIZE = 500
"""Images kept in memory with everything computed for comparing them, about half a megabyte each."""


def load_picture(stored: bytes | None) -> ReducedImage | None:
    """Return a stored image ready to be compared; None if there is none or it cannot be decoded."""
    small = reduce_image(stored) if stored else None
    return None if small is None else ReducedImage.of(small)


def compare_pictures(left: ReducedImage | None, right: ReducedImage | None) -> Agreement | None:
    """Compare two images; None if one of them is missing."""
    return None if left is None or right is None else compare(left, right)


def within_bounds(agreements: Sequence[Agreement | None], bounds: Verify) -> Bools:
    """Return which agreements are within the bounds, (n,)."""
    measured = [agreement for agreement in agreements if agreement is not None]
    passed = np.array([agreement is not None for agreement in agreements], bool)
    columns = {
        name: np.array([getattr(each, name) for each in measured], float) for name in MEASURED
    }
    passed[passed] = agrees(columns, bounds)
    return passed


def is_compared(pairs: pd.DataFrame, detections: Detections, bounds: Verify) -> Bools:
    """Return which pairs of `pairs_table` stage verify would compare, (n,).

    For each level these are the `k` nearest other images of an original: by vectors from the floor up,
    by hashes as far as the audit searches.
    """
    compared = np.zeros(len(pairs), bool)
    index = pd.MultiIndex.from_frame(pairs[["original", "other"]])
    for near, floor in ((detections.by_hash, -1.0), (detections.by_vector, bounds.floor)):
        rows = (near.rank() <= bounds.k) & (near.similarity >= np.float32(floor))
        nearest = pd.MultiIndex.from_arrays([near.query[rows], near.ids[rows].astype("U32")])
        compared |= np.asarray(index.isin(nearest), dtype=bool)
    return compared


def verify_pairs(pool: Pool, sample: Sample, pairs: pd.DataFrame, bounds: Verify) -> Bools:
    """Return which pairs of an original (its number) and an `other` image agree, (n,)."""
    if pairs.empty:
        return np.zeros(0, bool)
    ids = np.column_stack(
        [sample.ids[pairs["original"]].astype("U32"), pairs["other"].to_numpy().astype("U32")]
    )
    # dedup compares an unordered pair once, the smaller id first.
    unordered, number = np.unique(np.sort(ids, axis=1), axis=0, return_inverse=True)
    small = _read_reduced(pool, set(unordered.ravel().tolist()))

    @lru_cache(maxsize=CACHE_SIZE)
    def picture(image_id: str) -> ReducedImage | None:
        return ReducedImage.of(small[image_id]) if image_id in small else None

    agreements = []
    with ProgressBar("compare pairs", len(unordered)) as progress:
        for done, (left, right) in enumerate(unordered.tolist(), start=1):
            agreements.append(compare_pictures(picture(left), picture(right)))
            progress.set_done(done)
    agree: npt.NDArray[np.bool_] = within_bounds(agreements, bounds)[number.ravel()]
    return agree


def _read_reduced(pool: Pool, image_ids: set[str]) -> dict[str, bytes]:
    """Return images at the size at which they are compared, without those that cannot be decoded."""
    places = pool.locate(image_ids)
    located = sorted(places)
    fragments, rows = [places[i][0] for i in located], np.array([places[i][2] for i in located])
    images = {}
    for position, image in pool.read_images(fragments, rows):
        small = reduce_image(image)
        if small is not None:
            images[located[position]] = small
    return images
