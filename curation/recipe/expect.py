"""The block `expect` of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from curation.engine.params_base import Name, StrictModel

Filled = Annotated[float, Field(ge=0, le=1)]


class RowBounds(StrictModel):
    """How many images the dataset may have."""

    at_least: int = Field(default=1, ge=0)
    """Smallest number of images; 0 accepts a dataset without any."""
    at_most: int | None = Field(default=None, ge=0)
    """Largest number of images."""

    @model_validator(mode="after")
    def _are_bounds(self) -> RowBounds:
        if self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least ({self.at_least}) is more than at_most ({self.at_most})")
        return self


class ExpectParams(StrictModel):
    """What must hold of a dataset; by default, that it has an image. A run that misses it fails: its
    tables are kept, but the dataset does not become the latest."""

    rows: RowBounds = RowBounds()
    """How many images the dataset may have."""
    filled: Filled | None = None
    """Smallest share of the images that an arm requests which it must have in the dataset, for every
    arm. One that requests none misses every share above 0."""
    arms: dict[Name, Filled] = {}
    """The same share for single arms, instead of `filled`."""
    change: float | None = Field(default=None, ge=0)
    """Largest change of the number of images since the latest finished run of the recipe, as a share of
    that number: 0.2 allows 80 to 120 images after 100."""
