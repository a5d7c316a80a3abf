"""The rows of the dataset: claimed images with their claims and copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.engine.contract import contract
from curation.stages.assemble.params import AssembleStep
from curation.store.fragment import Fragment

CLAIM_COLUMNS = ["arm", "seed_set", "strategy", "seed_image_id", "similarity", "rank", "cluster_id"]
IMAGES_PER_BATCH = 512
"""Rows that are in memory at once, with their pixels."""
IMAGE_COLUMNS = [
    "pair_id",
    "image_id",
    "role",
    "source",
    "source_key",
    "url",
    "caption",
    "metadata",
    "width",
    "height",
    "original_width",
    "original_height",
    "format",
    "sha256",
]
TEXT_COLUMNS = ("source_key", "url", "caption", "metadata")
NARROW_BYTES = 256
"""Bytes that all other columns of a row take, about."""
CLAIM_BYTES, COPY_BYTES = 96, 96
"""Bytes of a claim, and of a copy without its URL and caption, about."""


@dataclass(frozen=True)
class Part:
    """The fragments of one name, which hold some rows of the dataset.

    Attributes:
        images: a fragment of `images`.
        copies: that of `copies`.
        assignments: that of `assignments`.
        claims: that of `claims`.
    """

    images: Fragment
    copies: Fragment
    assignments: Fragment
    claims: Fragment


def dataset_schema(params: AssembleStep) -> pa.Schema:
    """Return the columns of the dataset; without `image` if it holds none."""
    schema = contract("dataset").arrow_schema()
    return schema if params.pixels != "none" else schema.remove(schema.get_field_index("image"))


def order_keys(image_ids: npt.NDArray[np.bytes_], params: AssembleStep) -> npt.NDArray[np.uint64]:
    """Return the number of each image that decides its place in the dataset."""
    return seeded_keys(image_ids, params.seed, "dataset order")


def claimed_batches(part: Part, params: AssembleStep) -> Iterator[tuple[pa.RecordBatch, Any]]:
    """Yield the claimed rows of `images`, with the pixels that are kept, and their clusters.

    Args:
        part: the fragments.
        params: of the stage.
    """
    has_pixels = params.pixels != "none"
    columns = [*IMAGE_COLUMNS, "status", *(["image"] if has_pixels else [])]
    clusters = part.assignments.read(["cluster_id"]).column("cluster_id").combine_chunks()
    claimed = pc.unique(part.claims.read(["pair_id"]).column("pair_id").combine_chunks())
    start = 0
    for batch in part.images.batches(columns, rows=IMAGES_PER_BATCH):
        batch_clusters = clusters.slice(start, batch.num_rows)
        start += batch.num_rows
        # A duplicate of a pair has the same pair_id, but no pixels.
        wanted = pc.and_(
            pc.is_in(batch.column("pair_id"), value_set=claimed),
            pc.equal(batch.column("status"), "ok"),
        )
        rows = batch.filter(wanted)
        if rows.num_rows:
            yield _with_kept_pixels(rows, params), batch_clusters.filter(wanted)


def _with_kept_pixels(rows: pa.RecordBatch, params: AssembleStep) -> pa.RecordBatch:
    if params.pixels != "without_url":
        return rows
    place, images = rows.schema.get_field_index("image"), rows.column("image")
    kept = pc.if_else(pc.is_null(rows.column("url")), images, pa.scalar(None, images.type))
    return rows.set_column(place, "image", kept)


def dataset_rows(part: Part, params: AssembleStep) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the dataset that some fragments hold, in the order of the fragments.

    Args:
        part: the fragments.
        params: of the stage.
    """
    schema = dataset_schema(params)
    claims, copies = _claims_by_pair(part.claims), _copies_by_pair(part.copies)
    for batch, clusters in claimed_batches(part, params):
        rows = []
        for row, cluster_id in zip(batch.to_pylist(), clusters.to_pylist(), strict=True):
            row_claims = claims[row["pair_id"]]
            rows.append(
                row
                | {
                    "copies": copies.get(row["pair_id"]),
                    "cluster_id": cluster_id,
                    "claims": row_claims,
                    "weight": len(row_claims),
                    "run": params.run,
                }
            )
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def row_sizes(part: Part, params: AssembleStep) -> Iterator[tuple[Any, npt.NDArray[np.int64]]]:
    """Yield the order keys of the rows that some fragments hold, and about how many bytes each takes.

    Args:
        part: the fragments.
        params: of the stage.
    """
    claims = _claims_by_pair(part.claims)
    copies = {
        pair: sum(COPY_BYTES + len(c["url"] or "") + len(c["caption"] or "") for c in of_pair)
        for pair, of_pair in _copies_by_pair(part.copies).items()
    }
    for batch, _ in claimed_batches(part, params):
        sizes = np.full(batch.num_rows, NARROW_BYTES, np.int64)
        for name in (*TEXT_COLUMNS, *(["image"] if params.pixels != "none" else [])):
            lengths = pc.fill_null(pc.binary_length(batch.column(name)), 0)
            sizes += lengths.to_numpy(zero_copy_only=False).astype(np.int64)
        pairs = batch.column("pair_id").to_pylist()
        sizes += np.array([copies.get(p, 0) + CLAIM_BYTES * len(claims[p]) for p in pairs])
        yield order_keys(to_ids(batch.column("image_id")), params), sizes


def _copies_by_pair(copies: Fragment) -> dict[str, list[dict[str, Any]]]:
    """Return the copies that a row represents, by its pair_id."""
    table = copies.read(["pair_id", "copies"])
    table = table.filter(table.column("copies").is_valid())
    return dict(
        zip(table.column("pair_id").to_pylist(), table.column("copies").to_pylist(), strict=True)
    )


def _claims_by_pair(claims: Fragment) -> dict[str, list[dict[str, Any]]]:
    """Return the claims on a row, by its pair_id."""
    table = claims.read(["pair_id", *CLAIM_COLUMNS])
    of_pair: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        of_pair[row.pop("pair_id")].append(row)
    return of_pair
