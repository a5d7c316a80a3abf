"""The block `screen` of a recipe."""

from __future__ import annotations

from pydantic import field_validator, model_validator

from curation.engine.params_base import Name, StrictModel, input_file
from curation.engine.stage import Read, ScoreType, Stage
from curation.stages.screen.filters import DEFAULT_FILTERS, FILTERS


class WordList(StrictModel):
    """A file with a word or phrase a line."""

    file: str = input_file()


def words_score(name: str) -> str:
    """Return the name of the score of a list of words."""
    return f"words_{name}"


class ScreenParams(StrictModel):
    """Which scores are computed; thresholds stand under `select`.

    `words` are lists by name: `words: {profanity: {file: words.txt}}` gives a score `words_profanity`.
    """

    filters: list[str] = list(DEFAULT_FILTERS)
    words: dict[Name, WordList] = {}
    perceptual_hash: bool = True

    def scores(self) -> dict[str, ScoreType]:
        """Return the type of every score that the table holds."""
        filters: dict[str, ScoreType] = {
            name: "text" if FILTERS[name].text else "number" for name in self.filters
        }
        return filters | dict.fromkeys(map(words_score, self.words), "number")

    @model_validator(mode="after")
    def _names_differ(self) -> ScreenParams:
        for name in self.words:
            if words_score(name) in FILTERS:
                raise ValueError(
                    f"words.{name}: its score would be {words_score(name)}, which a filter is called; "
                    "rename the list"
                )
        return self

    @field_validator("filters")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            FILTERS.check(name)
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
    versions=lambda params: FILTERS.versions(params.filters),
)
