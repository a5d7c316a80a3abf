"""Whether the packages are installed that read pictures as a recipe says.

This imports no decoder, unless the recipe asks for one.
"""

from __future__ import annotations

from curation.errors import Detail, RecipeError
from curation.media.pictures.metadata.content_credentials import missing_library
from curation.media.pictures.plug_ins import add_format
from curation.stages.fetch.params import FetchParams


def check_packages(params: FetchParams) -> None:
    """Check that this machine has the packages for formats and for manifests of C2PA.

    Raises:
        RecipeError: the message names each field that asks for one that is missing.
    """
    problems: list[Detail] = []
    for kind in params.formats:
        try:
            add_format(kind)
        except RecipeError as error:
            problems += error.details
    missing = (missing_library(f"fetch.{field}") for field in params.manifest_fields)
    problems += [problem for problem in missing if problem is not None]
    if problems:
        raise RecipeError(*problems)
