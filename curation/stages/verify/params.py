"""Parameters of the stage verify."""

from __future__ import annotations

from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage


class VerifyStep(StrictModel):
    """Parameters of the stage verify. Without a floor no pair is compared."""

    floor: float | None
    k: int


STAGE = Stage(
    number=42,
    name="verify",
    kind="global",
    params=VerifyStep,
    writes="verified",
    reads=(Read("images"), Read("neighbours")),
    version=2,
)
