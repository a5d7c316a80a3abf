"""What the stage tally gets."""

from __future__ import annotations

from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage


class TallyStep(StrictModel):
    """What the stage tally gets: nothing, since it knows no thresholds."""


STAGE = Stage(
    number=47,
    name="tally",
    kind="global",
    params=TallyStep,
    writes="tallies",
    reads=(Read("images"), Read("copies")),
)
