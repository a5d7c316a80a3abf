"""Checks that a source has a row that may have an image: otherwise the run would go on without it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from curation.errors import Detail, RecipeError
from curation.masking import mask_address
from curation.media.files.location import shown, unescape
from curation.media.web.failure_reasons import LISTED_FAILURES, OTHER_LISTED_FAILURE
from curation.stages.ingest.formats.source_row import NAMED_PATH
from curation.stages.ingest.formats.values import shortened
from curation.stages.ingest.sources.source import Source
from curation.store.fragment import Fragment
from curation.store.manifest import count_outcomes

_UNUSABLE = (
    *("bad_row", "bad_scheme", "bad_url", "no_image", "outside_folder"),
    *(*LISTED_FAILURES, OTHER_LISTED_FAILURE),
)
"""Reasons for which the list, or the way it is read, is to blame."""


def check_usable(source: Source, tables: Sequence[Fragment]) -> None:
    """Check that not all rows of a source are dropped because they cannot be used.

    Args:
        source: the source.
        tables: its staged rows.

    Raises:
        RecipeError: all are.
    """
    outcomes = count_outcomes(table.record.counts for table in tables)
    if not all(o in _UNUSABLE or o.startswith("error_") for o in outcomes):
        return
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in outcomes.items())
    fix = "Mend the files, or see whether `format` and `columns` of the source fit them"
    if "outside_folder" in outcomes:
        fix = "Set `follow_links: true` of the source if they are links"
        if source.names_files:
            fix = f"Set `root` of the source to the folder of the images. {fix}"
    raise RecipeError(
        Detail(
            f"no row can be used ({reasons}){_example(tables)}",
            f"Source {source.name!r}",
            shown(mask_address(source.path)),
            fix=fix,
        )
    )


def _example(tables: Sequence[Fragment]) -> str:
    for table in tables:
        for batch in table.batches(["reason", "url", "source_key", "metadata", NAMED_PATH], rows=1):
            (row,) = batch.to_pylist()
            path = row[NAMED_PATH] and shown(unescape(row[NAMED_PATH]))
            example = path or row["url"] or row["source_key"]
            if row["reason"] != "outside_folder":
                # It says what is wrong with the row; a path says only where the row is.
                example = json.loads(row["metadata"] or "{}").get("unreadable") or example
            return f", such as {shortened(str(example))}" if example else ""
    return ""
