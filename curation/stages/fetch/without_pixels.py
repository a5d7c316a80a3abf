"""Rows of `images` without pixels, for recipes that fetch none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from curation.engine.contract import contract
from curation.media.web.failure_reasons import FORGOTTEN
from curation.store.fragment import Fragment
from curation.store.tombstones import IMAGE_ID_DIGITS, Takedowns

FROM_PAIRS = ("pair_id", "role", "source", "source_key", "url", "caption", "metadata")
"""Columns of `pairs` that `images` has too."""
_COLUMNS = (*FROM_PAIRS, "url_normalized", "expected_sha256", "status", "reason")
_BATCH_ROWS = 4096


def rows_without_pixels(pairs: Fragment, takedowns: Takedowns | None) -> Iterator[pa.RecordBatch]:
    """Yield batches of `images`, aligned with `pairs`: each pair that is not dropped is an image.

    Args:
        pairs: the fragment.
        takedowns: what was taken down; None for nothing.
    """
    schema = contract("images").arrow_schema()
    for batch in pairs.batches(_COLUMNS, rows=_BATCH_ROWS):
        rows = [_row(values, takedowns) for values in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _row(pair: Mapping[str, Any], takedowns: Takedowns | None) -> dict[str, Any]:
    row: dict[str, Any] = {name: pair[name] for name in FROM_PAIRS}
    if pair["status"] != "ok":
        return row | {"status": "skipped", "reason": pair["reason"]}
    image_id = image_id_of(pair)
    if takedowns is not None and takedowns.has_image(image_id):
        return row | {"status": "failed", "reason": FORGOTTEN}
    return row | {"status": "ok", "image_id": image_id, "sha256": pair["expected_sha256"]}


def image_id_of(pair: Mapping[str, Any]) -> str:
    """Return the id of an image whose bytes are not known.

    It is that of its bytes if the list states their SHA-256; else a hash of its URL, by which the same
    URL is the same image in every source; else the id of the pair.
    """
    if pair["expected_sha256"] is not None:
        return str(pair["expected_sha256"])[:IMAGE_ID_DIGITS]
    if pair["url_normalized"] is not None:
        return hashlib.sha256(pair["url_normalized"].encode()).hexdigest()[:IMAGE_ID_DIGITS]
    return str(pair["pair_id"])
