"""Rows of lists that were taken down: empty, but in their place, so that no other row moves."""

from __future__ import annotations

import zlib
from typing import Any

import pyarrow as pa

from curation.media.web.failure_reasons import FORGOTTEN
from curation.media.web.urls import host_of
from curation.store.tombstones import Takedowns

BUCKET_BITS = 12
"""Bits of the hash of a host that decide the bucket of its rows."""
_BUCKET_DIGITS, _ID_DIGITS = BUCKET_BITS // 4, 32


def host_hash(url: str | None, pair_id: str) -> int:
    """Return the hash of 32 bits that decides the bucket of a row: of its host, or of its pair_id."""
    return zlib.crc32((host_of(url) if url else pair_id).encode())


def forgotten_row(takedowns: Takedowns, pair_id: str, url: str | None) -> dict[str, Any]:
    """Return the staged row that stands for one that was taken down; columns left out are null.

    Its pair_id is a keyed hash of the one that it had, after the digits by which its bucket stays.

    Args:
        takedowns: what was taken down.
        pair_id: that the row had.
        url: its normalised URL.
    """
    bucket = host_hash(url, pair_id) >> (32 - BUCKET_BITS)
    hidden = takedowns.hash_of("pair", pair_id)
    place = f"{bucket:0{_BUCKET_DIGITS}x}"
    return {"pair_id": (place + hidden)[:_ID_DIGITS], "status": "dropped", "reason": FORGOTTEN}


def bucket_of_forgotten(pair_id: str, bits: int) -> int:
    """Return the bucket of such a row by its pair_id."""
    return int(pair_id[:_BUCKET_DIGITS], 16) >> (BUCKET_BITS - bits)


def not_forgotten(batch: pa.RecordBatch, takedowns: Takedowns | None) -> pa.RecordBatch:
    """Return the rows of `pairs` that were not taken down since they were written."""
    if takedowns is None:
        return batch
    names = ("pair_id", "url_normalized", "url", "expected_sha256")
    rows = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    kept = [
        not (
            takedowns.has("pair", pair_id)
            or (bool(url or raw) and takedowns.has_url(url or raw.strip()))
            or (sha256 is not None and takedowns.has_image(sha256))
        )
        for pair_id, url, raw, sha256 in rows
    ]
    return batch if all(kept) else batch.filter(pa.array(kept, pa.bool_()))
