"""Sources at http and https addresses: each is one file."""

from __future__ import annotations

from urllib.parse import unquote

from curation.errors import Detail, RecipeError, StoreError
from curation.masking import mask_address
from curation.media.web.params import OutboundParams
from curation.media.web.urls import InvalidURLError, normalize
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile


def web_source_file(source: Source, outbound: OutboundParams) -> SourceFile:
    """Return the file of a source on the web.

    Args:
        source: the source.
        outbound: how it is requested.

    Raises:
        RecipeError: it is no file, or may not be requested.
        StoreError: it cannot be requested now.
    """
    # It imports an HTTP client, which local files do not need.
    from curation.media.files.web_file import WebFile, WebFileError

    place = f"Source {source.name!r}: {mask_address(source.address)}"
    try:
        address = normalize(source.address)
    except InvalidURLError as error:
        raise RecipeError(
            f"{place} is no valid URL, or has a user name or password, which tables would show",
            fix="Correct it, or download the file, and set `path` to your copy",
        ) from error
    root, _, name = address.partition("?")[0].rpartition("/")
    if FORMATS[source.reader].is_folder or not name or "*" in name:
        raise RecipeError(
            f"{place} is not one file, and folders on the web cannot be listed",
            fix=(
                "Set `path` to one file; for several, write one source for each. For a folder of "
                "images, write a list of their URLs (format: txt)"
            ),
        )
    try:
        with WebFile(address, outbound) as file:
            size, version = file.size, file.version
    except WebFileError as error:
        kind = StoreError if error.may_pass else RecipeError
        raise kind(Detail(str(error), f"Source {source.name!r}")) from error
    query = address[len(root) + 1 + len(name) :]
    return SourceFile(source, root, unquote(name), size, version, query, outbound=outbound)
