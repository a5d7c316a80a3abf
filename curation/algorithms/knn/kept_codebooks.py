"""Codebooks of an earlier run of a step, for the pool that they were trained on and what grew from it.

They stay while `rounded_size` of the pool stays, so that a grown pool only adds fragments. A pool that
was replaced is another pool: it shares few images with the one before, and gets its own codebooks.
Images that take part in this comparison are sampled by their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.choice import GROWTH_FACTOR
from curation.algorithms.knn.sample import read_sample
from curation.engine.context import Context
from curation.store.fragment import Fragment

COMPARED_IMAGES = 4096
"""Expected number of images by which pools are compared, of the smallest pool of a scale."""


def load_codebooks(
    name: str, key: Any, compared: Mapping[str, Fragment], context: Context
) -> Fragment | None:
    """Return the codebooks that an earlier run of the step kept, or None if they are of another pool.

    Args:
        name: kind of the codebooks.
        key: what they depend on besides the pool, with the scale of the pool.
        compared: a sample of the pool whose share depends only on the scale.
        context: keeps them.
    """
    kept = context.load_state(name, key)
    if kept is None:
        return None
    pool = context.load_state(_pool(name), [key, kept.content])
    if pool is None:
        return None
    now, _ = read_sample(compared)
    common = np.intersect1d(now, to_ids(pool.read().column("image_id")))
    return context.inherit_state(name, key) if GROWTH_FACTOR * len(common) >= len(now) else None


def keep_codebooks(
    name: str, key: Any, batch: pa.RecordBatch, compared: Mapping[str, Fragment], context: Context
) -> Fragment:
    """Keep codebooks for later runs; the arguments are those of `load_codebooks`.

    Returns:
        The codebooks, as work table that every worker can read.
    """
    context.save_state(name, key, batch)
    kept = context.load_state(name, key)
    assert kept is not None
    context.save_state(_pool(name), [key, kept.content], _image_ids(read_sample(compared)[0]))
    return kept


def _pool(name: str) -> str:
    return f"pool of {name}"


def _image_ids(ids: Ids) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([from_ids(ids)], ["image_id"])
