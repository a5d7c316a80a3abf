"""Parameters of the stage tally."""

from __future__ import annotations

from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, ScoreType, Stage


class TallyStep(StrictModel):
    """Parameters of the stage tally: none, because thresholds are applied by `select`."""


SCORES: dict[str, ScoreType] = {"caption_repeats": "number"}
"""Scores in the table, which every recipe may use."""

STAGE = Stage(
    number=47,
    name="tally",
    kind="global",
    params=TallyStep,
    writes="tallies",
    reads=(Read("images"), Read("copies")),
)
