"""Rows that an earlier run has fetched already, though their fragment has changed since.

A memo stands for a whole fragment. Where a list has grown or shrunk only its new rows are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.engine.context import Context
from curation.engine.fragment import Fragment, group_by_stem
from curation.engine.params_base import changed_fields
from curation.media.web.refusal import is_final
from curation.stages.fetch.params import FetchStep
from curation.stages.fetch.samples import FACTS

LENIENT = {
    "timeout_s",
    "retries",
    "max_redirects",
    "patience_s",
    "allow_hosts",
    "max_bytes",
    "max_pixels",
}
"""Parameters that decide which rows fail, but nothing of a picture that came."""


@dataclass(frozen=True)
class Earlier:
    """Fragments of `images` as an earlier run left them; `failures`: their failures stand too.

    They are no part of what a memo depends on: without them the same rows are fetched anew.
    """

    fragments: tuple[Fragment, ...] = ()
    failures: bool = False
    content: None = None


def earlier_images(params: FetchStep, context: Context) -> tuple[dict[str, list[Fragment]], bool]:
    """Return the fragments of `images` that this run may take rows from, and whether failures too.

    They are by the stem of their names: a row may have moved to another part of its bucket or file.
    """
    manifest = context.store.manifest("images")
    if manifest is None or [manifest.stage, manifest.stage_version] != context.salt:
        return {}, False
    changed = changed_fields(params, manifest.params)
    # A network of the same name may be another one.
    if changed - LENIENT or params.faces.weights:
        return {}, False
    return group_by_stem(Fragment(context.store, r) for r in manifest.fragments), not changed


def fetched_before(
    pairs: Fragment, earlier: Earlier, done: npt.NDArray[np.bool_], params: FetchStep
) -> Iterator[tuple[int, bytes | None, dict[str, Any]]]:
    """Yield (row, stored picture, facts) of the rows not done whose fate is known."""
    if not earlier.fragments:
        return
    rows: dict[str, int] = {}
    row = -1
    for batch in pairs.batches(["pair_id", "status"]):
        for name, status in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            row += 1
            if status == "ok" and not done[row]:
                rows[name] = row
    for fragment in earlier.fragments:
        known = fragment.read(["pair_id"]).column(0).to_pylist()
        if any(name in rows for name in known):
            for batch in fragment.batches(["pair_id", *FACTS, "image"]):
                for values in batch.to_pylist():
                    if values["pair_id"] in rows and _stands(values, earlier.failures, params):
                        image = values.pop("image")
                        yield rows.pop(values.pop("pair_id")), image, values


def _stands(values: dict[str, Any], failures: bool, params: FetchStep) -> bool:
    if values["status"] != "ok":
        return failures and values["status"] == "failed" and is_final(values["reason"])
    pixels = values["original_width"] * values["original_height"]
    return bool(values["bytes"] <= params.max_bytes and pixels <= params.max_pixels)
