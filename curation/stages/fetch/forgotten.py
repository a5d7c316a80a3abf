"""Fetched rows that were taken down: by the bytes, by the URL that gave them, or by how they look."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.media.pictures.likeness import looks_like
from curation.media.web.failure_reasons import FORGOTTEN
from curation.stages.fetch.sample_schema import IMAGE_FORMAT
from curation.store.tombstones import Takedowns

KEPT = frozenset({"key"})
"""Columns of shards that stay of a row that was taken down."""


def forget_samples(samples: pa.Table, takedowns: Takedowns | None) -> pa.Table:
    """Return samples in which those that were taken down are failed rows without content.

    Args:
        samples: rows of shards.
        takedowns: what was taken down; None for nothing.
    """
    if takedowns is None:
        return samples
    names = ("sha256", "final_url", IMAGE_FORMAT)
    rows = zip(*(samples.column(name).to_pylist() for name in names), strict=True)
    gone = pa.array([_is_gone(takedowns, *row) for row in rows], pa.bool_())
    if not gone.true_count:
        return samples
    columns: list[Any] = []
    for field in samples.schema:
        value = {"status": "failed", "reason": FORGOTTEN}.get(field.name)
        blank = pa.scalar(value, field.type)
        column = samples.column(field.name)
        columns.append(column if field.name in KEPT else pc.if_else(gone, blank, column))
    return pa.table(columns, schema=samples.schema)


def _is_gone(
    takedowns: Takedowns, sha256: str | None, url: str | None, image: bytes | None
) -> bool:
    if sha256 is not None and takedowns.has_image(sha256):
        return True
    if url is not None and takedowns.has_url(url):
        return True
    return image is not None and looks_like(image, takedowns.likes)
