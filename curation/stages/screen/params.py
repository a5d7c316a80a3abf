"""The block `screen` of a recipe."""

from __future__ import annotations

from pydantic import Field, field_validator

from curation.engine.params_base import Name, StrictModel, input_file
from curation.engine.stage import Read, Stage
from curation.stages.screen.filters import FILTERS, default_filters


class WordList(StrictModel):
    """A file with a word or phrase a line."""

    file: str = input_file()


class ScreenParams(StrictModel):
    """Which scores are computed; thresholds stand under `select`.

    `words` are lists by name: `words: {profanity: {file: words.txt}}` gives a score `words_profanity`.
    """

    filters: list[str] = Field(default_factory=default_filters)
    words: dict[Name, WordList] = {}
    perceptual_hash: bool = True

    @field_validator("filters")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in FILTERS:
                raise ValueError(f"unknown filter {name!r}. Valid: {', '.join(FILTERS)}")
        if len(set(names)) != len(names):
            raise ValueError("a filter is named more than once")
        return names


STAGE = Stage(
    number=20,
    name="screen",
    kind="map",
    params=ScreenParams,
    writes="scores",
    reads=(Read("images"),),
    version=2,
)
