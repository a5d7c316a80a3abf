"""What the stage tally gets."""

from __future__ import annotations

from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, ScoreType, Stage


class TallyStep(StrictModel):
    """What the stage tally gets: nothing, since it knows no thresholds."""


SCORES: dict[str, ScoreType] = {"caption_repeats": "number"}
"""The scores of the table, which every recipe has."""

STAGE = Stage(
    number=47,
    name="tally",
    kind="global",
    params=TallyStep,
    writes="tallies",
    reads=(Read("images"), Read("copies")),
)
