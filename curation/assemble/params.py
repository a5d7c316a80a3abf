"""The block `assemble` of a recipe."""

from __future__ import annotations

from curation.strict import Strict, execution_only


class AssembleParams(Strict):
    """What the dataset holds. Without `pixels` the stored images stay in the table `images`."""

    pixels: bool = False
    rows_per_file: int = execution_only(100_000, ge=1)
