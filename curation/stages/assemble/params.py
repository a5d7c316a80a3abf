"""The block `assemble` of a recipe."""

from __future__ import annotations

from curation.engine.params_base import StrictModel, execution_only
from curation.engine.stage import FunctionPath, Read, Stage


class AssembleParams(StrictModel):
    """What the dataset holds."""

    pixels: bool = False
    """Whether the dataset holds the stored images; otherwise they are only in the table `images`."""
    rows_per_file: int = execution_only(100_000, ge=1)
    """Number of claims after which a new file of the dataset begins."""


class AssembleStep(AssembleParams):
    """What the stage assemble gets."""

    run: str
    """Fingerprint of the run, which each row of the dataset names."""


STAGE = Stage(
    number=90,
    name="assemble",
    kind="map",
    params=AssembleStep,
    writes="dataset",
    reads=(Read("images"), Read("copies"), Read("assignments"), Read("claims")),
    version=2,
    needs_seeds=True,
    units=FunctionPath("curation.stages.assemble.stage:units"),
    rows_per_file=lambda params: params.rows_per_file,
)
