"""Folders of tables with a log: it says which files count, and nothing but the log does."""

from __future__ import annotations

import re
from collections.abc import Iterable

from curation.errors import Detail, RecipeError
from curation.masking import mask_address
from curation.media.files.location import shown
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import FileInfo

_LOGS = {
    re.compile(r"(^|/)_delta_log/"): "a Delta table",
    re.compile(r"(^|/)\.hoodie/"): "a Hudi table",
    re.compile(r"(^|/)metadata/[^/]*\.metadata\.json$"): "an Iceberg table",
}
"""Files of the logs of tables."""


def check_is_no_table(source: Source, files: Iterable[FileInfo]) -> None:
    """Check that a folder is no table with a log.

    Args:
        source: the source of the folder.
        files: all files of the folder.

    Raises:
        RecipeError: it is one. It holds rows of earlier versions, and rows that were deleted.
    """
    if ".parquet" not in FORMATS[source.reader].endings:
        return
    for file in files:
        kind = next((kind for mark, kind in _LOGS.items() if mark.search(file.name)), None)
        if kind is not None:
            raise RecipeError(
                Detail(
                    f"it is {kind}: its folder holds files of earlier versions and rows that were "
                    f"deleted ({shown(file.name)} says which count)",
                    f"Source {source.name!r}",
                    shown(mask_address(source.path)),
                    fix="Write its rows as plain Parquet with the program that wrote it, or name "
                    "the files that count by a glob",
                )
            )
