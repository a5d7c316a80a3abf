"""Rows that an earlier run has fetched, although their fragment has changed since.

A memo stands for a whole fragment. If a list has grown or shrunk, only its new rows are requested.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.engine.context import Context
from curation.engine.params_base import changed_fields
from curation.media.web.fetch_error import is_permanent
from curation.stages.fetch.params import FetchStep
from curation.stages.fetch.sample_writer import SHARED_COLUMNS
from curation.store.fragment import Fragment, group_by_stem

FAILURE_PARAMS = {
    "timeout_s",
    "retries",
    "max_redirects",
    "patience_s",
    "allow_hosts",
    "max_bytes",
    "max_pixels",
    "formats",
}
"""Parameters that decide which rows fail, but change nothing of a stored image."""


@dataclass(frozen=True)
class EarlierImages:
    """Fragments of `images` that an earlier run wrote.

    No memo depends on them: without them, the same rows are fetched again.

    Attributes:
        fragments: they may hold the rows of the fragment to fetch.
        failures: whether their permanent failures are still valid, too.
    """

    fragments: tuple[Fragment, ...] = ()
    failures: bool = False
    content: None = None


def earlier_images(params: FetchStep, context: Context) -> tuple[dict[str, list[Fragment]], bool]:
    """Return the fragments of `images` whose rows this run may reuse, and whether failures count too.

    Fragments are by the stem of their names, since a row may have moved to another part of its bucket
    or file.
    """
    # The file of the face detector may have changed under the same name.
    if params.faces.weights:
        return {}, False
    for manifest in context.earlier_versions("images"):
        changed = changed_fields(params, manifest.params)
        same_stage = [manifest.stage, manifest.stage_version] == context.salt
        if same_stage and not changed - FAILURE_PARAMS:
            fragments = (Fragment(context.store, record) for record in manifest.fragments)
            return group_by_stem(fragments), not changed
    return {}, False


def reusable_rows(
    pairs: Fragment, earlier: EarlierImages, done: npt.NDArray[np.bool_], params: FetchStep
) -> Iterator[tuple[int, bytes | None, dict[str, Any]]]:
    """Yield (row, stored image, SHARED_COLUMNS) of rows that an earlier run has fetched.

    Args:
        pairs: the fragment to fetch.
        earlier: fragments that may hold its rows.
        done: rows that need no result, bool of shape (rows,).
        params: those of this run.
    """
    if not earlier.fragments:
        return
    rows = _rows_to_fetch(pairs, done)
    for fragment in earlier.fragments:
        pair_ids = fragment.read(["pair_id"]).column(0).to_pylist()
        if any(pair_id in rows for pair_id in pair_ids):
            for batch in fragment.batches(["pair_id", *SHARED_COLUMNS, "image"]):
                for values in batch.to_pylist():
                    if values["pair_id"] in rows and _is_valid(values, earlier.failures, params):
                        image = values.pop("image")
                        yield rows.pop(values.pop("pair_id")), image, values


def _rows_to_fetch(pairs: Fragment, done: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Return the rows that are neither dropped nor done, by pair_id."""
    rows: dict[str, int] = {}
    row = -1
    for batch in pairs.batches(["pair_id", "status"]):
        for pair_id, status in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            row += 1
            if status == "ok" and not done[row]:
                rows[pair_id] = row
    return rows


def _is_valid(values: dict[str, Any], failures: bool, params: FetchStep) -> bool:
    """Whether this run would give the same row."""
    if values["status"] != "ok":
        return failures and values["status"] == "failed" and is_permanent(values["reason"])
    pixels = values["original_width"] * values["original_height"]
    return bool(values["bytes"] <= params.max_bytes and pixels <= params.max_pixels)
