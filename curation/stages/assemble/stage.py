"""assemble: one row per image with all its claims, in a folder that any Parquet reader opens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
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


def units(
    images: Table,
    copies: Table,
    assignments: Table,
    claims: Table,
    *,
    params: AssembleStep,
    context: Context,
) -> dict[str, dict[str, Any]]:
    """Return the arguments of each file: neighbouring fragments with about `rows_per_file` claims.

    Fragments without claims are left out. Without any claim there is still one file: an empty dataset
    is a table too.
    """
    claimed = claims.fragments
    groups: list[list[str]] = [[]]
    rows_left = params.rows_per_file
    for name in images.fragments:
        if name not in claimed:
            continue
        if groups[-1] and claimed[name].rows > rows_left:
            groups.append([])
            rows_left = params.rows_per_file
        groups[-1].append(name)
        rows_left -= claimed[name].rows
    return {
        f"part-{number:05d}": {
            "images": [images.fragments[n] for n in names],
            "copies": [copies.fragments[n] for n in names],
            "assignments": [assignments.fragments[n] for n in names],
            "claims": [claimed[n] for n in names],
        }
        for number, names in enumerate(groups)
    }


def assemble(
    images: list[Fragment],
    copies: list[Fragment],
    assignments: list[Fragment],
    claims: list[Fragment],
    *,
    params: AssembleStep,
) -> StageOutput:
    """Join the claimed rows of some fragments with their claims and copies.

    Args:
        images: fragments of `images`.
        copies: the fragments of `copies` with the same names, in the same order.
        assignments: those of `assignments`.
        claims: those of `claims`.
        params: of the stage.

    Yields:
        Batches of `dataset`.
    """
    schema = contract("dataset").arrow_schema()
    if not params.pixels:
        schema = schema.remove(schema.get_field_index("image"))
    yield empty_batch(schema)
    for fragments in zip(images, copies, assignments, claims, strict=True):
        yield from _batches(fragments, params, schema)
    return None


def _batches(
    fragments: tuple[Fragment, Fragment, Fragment, Fragment],
    params: AssembleStep,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    images, copies, assignments, claims = fragments
    claims_by_pair, copies_by_pair = _claims_by_pair(claims), _copies_by_pair(copies)
    columns = [*IMAGE_COLUMNS, "status", *(["image"] if params.pixels else [])]
    cluster_ids = assignments.read(["cluster_id"]).column("cluster_id").combine_chunks()
    start = 0
    for batch in images.batches(columns, rows=IMAGES_PER_BATCH):
        batch_clusters = cluster_ids.slice(start, batch.num_rows).to_pylist()
        start += batch.num_rows
        rows = []
        for row, cluster_id in zip(batch.to_pylist(), batch_clusters, strict=True):
            row_claims = claims_by_pair.get(row["pair_id"])
            # A duplicate of a pair has the same pair_id, but no pixels.
            if row_claims is None or row["status"] != "ok":
                continue
            rows.append(
                row
                | {
                    "copies": copies_by_pair.get(row["pair_id"]),
                    "cluster_id": cluster_id,
                    "claims": row_claims,
                    "weight": len(row_claims),
                    "run": params.run,
                }
            )
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


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
