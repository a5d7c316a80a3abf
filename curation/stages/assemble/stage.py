"""assemble: one row an image, with all its claims, as a folder that any Parquet reader opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.assemble.params import AssembleStep

CLAIM = ["arm", "seed_set", "strategy", "seed_image_id", "similarity", "rank", "cluster_id"]
FROM_IMAGES = [
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
    """Return the files to write: neighbouring fragments together, up to `rows_per_file` claims."""
    claimed = claims.fragments
    # The first is there even without a claim: an empty dataset is a table too.
    bundles: list[list[str]] = [[]]
    room = params.rows_per_file
    for name in images.fragments:
        if name not in claimed:
            continue
        if bundles[-1] and claimed[name].rows > room:
            bundles.append([])
            room = params.rows_per_file
        bundles[-1].append(name)
        room -= claimed[name].rows
    return {
        f"part-{number:05d}": {
            "images": [images.fragments[n] for n in names],
            "copies": [copies.fragments[n] for n in names],
            "assignments": [assignments.fragments[n] for n in names],
            "claims": [claimed[n] for n in names],
        }
        for number, names in enumerate(bundles)
    }


def assemble(
    images: list[Fragment],
    copies: list[Fragment],
    assignments: list[Fragment],
    claims: list[Fragment],
    *,
    params: AssembleStep,
) -> StageOutput:
    """Write the claimed rows of some fragments.

    Yields:
        Batches of `dataset`.
    """
    schema = contract("dataset").arrow_schema()
    if not params.pixels:
        schema = schema.remove(schema.get_field_index("image"))
    yield empty_batch(schema)
    for part in zip(images, copies, assignments, claims, strict=True):
        yield from _rows(part, params, schema)
    return None


def _rows(
    part: tuple[Fragment, Fragment, Fragment, Fragment], params: AssembleStep, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    images, copies, assignments, claims = part
    by_pair, beside = _claims_by_pair(claims), _copies_by_pair(copies)
    columns = [*FROM_IMAGES, "status", *(["image"] if params.pixels else [])]
    clusters = assignments.read(["cluster_id"]).column("cluster_id").combine_chunks()
    start = 0
    for batch in images.batches(columns, rows=512):
        cluster = clusters.slice(start, batch.num_rows).to_pylist()
        start += batch.num_rows
        rows = []
        for row, cluster_id in zip(batch.to_pylist(), cluster, strict=True):
            found = by_pair.get(row["pair_id"])
            # A repeat of a pair has the same pair_id, but no pixels.
            if found is None or row["status"] != "ok":
                continue
            rows.append(
                row
                | {
                    "copies": beside.get(row["pair_id"]),
                    "cluster_id": cluster_id,
                    "claims": found,
                    "weight": len(found),
                    "run": params.run,
                }
            )
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _copies_by_pair(copies: Fragment) -> dict[str, list[dict[str, Any]]]:
    """Return the copies that stand beside a row, by its pair_id."""
    table = copies.read(["pair_id", "copies"])
    table = table.filter(table.column("copies").is_valid())
    return dict(
        zip(table.column("pair_id").to_pylist(), table.column("copies").to_pylist(), strict=True)
    )


def _claims_by_pair(claims: Fragment) -> dict[str, list[dict[str, Any]]]:
    table = claims.read(["pair_id", *CLAIM])
    frame = pd.DataFrame({"pair_id": table.column("pair_id").to_pylist()})
    rows = table.select(CLAIM).to_pylist()
    return {
        str(pair): [rows[i] for i in places]
        for pair, places in frame.groupby("pair_id").indices.items()
    }
