"""Parameters of the stage verify."""

from __future__ import annotations

from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage


class VerifyStep(StrictModel):
    """What the stage verify gets."""

    floor: float | None
    """Smallest cosine similarity of a pair of near vectors that is compared; null compares no pair."""
    k: int
    """Number of nearest neighbours per pool image whose pixels are compared."""


STAGE = Stage(
    number=42,
    name="verify",
    kind="global",
    params=VerifyStep,
    writes="verified",
    reads=(Read("images"), Read("neighbours")),
    version=6,
    decodes=True,
)
