"""Pictures of pairs looked at pixel by pixel, as stage verify does and dedup judges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.algorithms.arrays.vectors import Bools
from curation.engine.contract import contract
from curation.engine.progress import Progress
from curation.inspect.audit.pool import Pool, Sample
from curation.stages.dedup.agreement import MEASURED, agrees
from curation.stages.dedup.params import Verify
from curation.stages.verify.compare import Agreement, compare
from curation.stages.verify.reduced_image import ReducedImage, reduce_image

if TYPE_CHECKING:
    from curation.inspect.audit.detect import Found

KEPT = 500
"""Pictures held with all that comparing made of them, about half a megabyte each."""


def small_picture(stored: bytes | None) -> ReducedImage | None:
    """Return a stored picture as it is compared; None if there is none or it cannot be decoded."""
    small = reduce_image(stored) if stored else None
    return None if small is None else ReducedImage.of(small)


def compared(this: ReducedImage | None, other: ReducedImage | None) -> Agreement | None:
    """Compare two pictures; None if one is not there."""
    return None if this is None or other is None else compare(this, other)


def within(measures: Sequence[Agreement | None], bounds: Verify) -> Bools:
    """Return which agree within the bounds, (n,), to the precision of the table `verified`."""
    known = np.array([found is not None for found in measures], bool)
    schema = contract("verified").arrow_schema()
    columns = {
        name: np.array(
            [getattr(found, name) for found in measures if found is not None],
            schema.field(name).type.to_pandas_dtype(),
        )
        for name in MEASURED
    }
    known[known] = agrees(columns, bounds)
    return known


def looked_at(pairs: pd.DataFrame, found: Found, bounds: Verify) -> Bools:
    """Return which pairs of `pairs_table` stage verify would compare.

    By each level these are the `k` others nearest to an original: by vectors from the floor on, by
    hashes as far as the audit looks.
    """
    wanted = np.zeros(len(pairs), bool)
    pair = pd.MultiIndex.from_frame(pairs[["original", "other"]])
    for near, floor in ((found.by_hash, -1.0), (found.by_vector, bounds.floor)):
        own = (near.rank() <= bounds.k) & (near.similarity >= np.float32(floor))
        ends = pd.MultiIndex.from_arrays([near.query[own], near.ids[own].astype("U32")])
        wanted |= np.asarray(pair.isin(ends), dtype=bool)
    return wanted


def agreeing(pool: Pool, sample: Sample, pairs: pd.DataFrame, bounds: Verify) -> Bools:
    """Return which pairs of an original (its number) and an `other` agree, (n,)."""
    if pairs.empty:
        return np.zeros(0, bool)
    ends = np.column_stack(
        [sample.ids[pairs["original"]].astype("U32"), pairs["other"].to_numpy().astype("U32")]
    )
    # An unordered pair is compared as dedup does: the smaller id first.
    own, number = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True)
    small = _reduced(pool, set(own.ravel().tolist()))

    @lru_cache(maxsize=KEPT)
    def picture(image: str) -> ReducedImage | None:
        return ReducedImage.of(small[image]) if image in small else None

    measures = []
    with Progress("compare ties", len(own)) as progress:
        for done, (left, right) in enumerate(own.tolist(), start=1):
            measures.append(compared(picture(left), picture(right)))
            progress.reached(done)
    found: npt.NDArray[np.bool_] = within(measures, bounds)[number.ravel()]
    return found


def _reduced(pool: Pool, wanted: set[str]) -> dict[str, bytes]:
    """Return wanted images at the size that is compared; those that cannot be decoded are left out."""
    places = pool.places(wanted)
    images = sorted(places)
    fragments, rows = [places[i][0] for i in images], np.array([places[i][2] for i in images])
    found = {}
    for n, image in pool.stored(fragments, rows):
        small = reduce_image(image)
        if small is not None:
            found[images[n]] = small
    return found
