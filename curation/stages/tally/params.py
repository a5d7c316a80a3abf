"""Parameters of the stage tally."""

from __future__ import annotations

from curation.engine.params_base import StrictModel, execution_only
from curation.engine.stage import Read, ScoreType, Stage


class TallyStep(StrictModel):
    """Parameters of the stage tally; thresholds are applied by `select`."""

    rows_at_once: int = execution_only(20_000_000, ge=1)
    """Largest number of rows whose captions the driver counts, at about 120 bytes each; more are
    counted on workers, with the same result."""


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
