"""The block `select` of a recipe: thresholds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from curation.engine.params_base import StrictModel
from curation.engine.stage import Read, Stage
from curation.media.encoders.params import EMBEDDINGS

SCORE_TABLES = ("scores", "head_scores", "tallies")
"""The tables with scores that thresholds may bound; all are aligned with `images`."""
NO_SCORES = ("pair_id", "phash", "pixel_id", "method", "contaminated", "copy_of_seed")
"""Columns of these tables that are no score."""


class Threshold(StrictModel):
    """Inclusive bounds on a numeric score, or the valid values of a text score."""

    at_least: float | None = None
    """Smallest score that passes, in the unit of the score."""
    at_most: float | None = None
    """Largest score that passes, in the unit of the score."""
    one_of: list[str] | None = Field(default=None, min_length=1)
    """Values that pass, for a text score."""
    missing: Literal["drop", "keep"] = "drop"
    """Whether a row without this score is dropped or kept."""

    @model_validator(mode="after")
    def _bounds(self) -> Threshold:
        if self.at_least is None and self.at_most is None and self.one_of is None:
            raise ValueError("give at_least, at_most or both, or one_of for a score of text")
        if self.one_of is not None and (self.at_least, self.at_most) != (None, None):
            raise ValueError("one_of is for scores of text, at_least and at_most for numbers")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:  # type: ignore[operator]
            raise ValueError(f"at_least {self.at_least} is above at_most {self.at_most}")
        return self

    def passes(self, score: Any) -> bool:
        """Whether a score passes. One of a float32 column is given as `numpy.float32`.

        As in the stage, numpy then rounds the bounds to the type of the score.
        """
        if score is None or score != score:
            return self.missing == "keep"
        if self.one_of is not None:
            return score in self.one_of
        low, high = self.at_least, self.at_most
        return bool((low is None or score >= low) and (high is None or score <= high))


class SelectStep(StrictModel):
    """What the stage gets."""

    encoder: str
    """Name of the encoder of clusters, whose vector a row must have."""
    tables: dict[str, str]
    """The table of SCORE_TABLES that holds each score under `thresholds`."""
    thresholds: dict[str, Threshold]
    """Thresholds by score."""
    seed_copies: Literal["keep", "drop"]
    """Whether pool images that are copies of a seed image are kept or dropped."""


STAGE = Stage(
    number=50,
    name="select",
    kind="map",
    params=SelectStep,
    writes="eligible",
    reads=(
        Read("images"),
        *(Read(table) for table in SCORE_TABLES),
        Read(EMBEDDINGS),
    ),
    version=3,
    members=lambda params: (params.encoder,),
)
