"""The columns of the shards that a fetch writes."""

from __future__ import annotations

import pyarrow as pa

IMAGE_FORMAT = "jpg"
"""Format of stored images, and the column of shards that holds them."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("opt_out", pa.string()),
        ("rsl_license", pa.string()),
        ("final_url", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("format", pa.string()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("faces_blurred", pa.int32()),
        ("data_mining", pa.string()),
        ("rights", pa.string()),
        ("credit", pa.string()),
        ("has_c2pa", pa.bool_()),
        ("kept_metadata", pa.string()),
        ("stored_bytes", pa.int64()),
        ("detail", pa.string()),
    ]
)
SHARED_COLUMNS = tuple(
    name for name in SCHEMA.names if name not in ("key", "stored_bytes", "detail")
)
"""Columns that shards and the table `images` have in common."""
