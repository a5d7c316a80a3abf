"""The block `assemble` of a recipe."""

from __future__ import annotations

from curation.engine.params_base import StrictModel, execution_only
from curation.engine.stage import FunctionPath, Read, Stage


class AssembleParams(StrictModel):
    """What the dataset holds. Without `pixels` the stored images stay in the table `images`."""

    pixels: bool = False
    rows_per_file: int = execution_only(100_000, ge=1)


class AssembleStep(AssembleParams):
    """What the stage assemble gets."""

    run: str


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
