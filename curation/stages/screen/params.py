"""The block `screen` of a recipe."""

from __future__ import annotations

from pydantic import field_validator, model_validator

from curation.engine.params_base import Name, StrictModel, input_file
from curation.engine.stage import Read, ScoreType, Stage
from curation.stages.screen.filters import DEFAULT_FILTERS, FILTERS


class WordList(StrictModel):
    """A list of words."""

    file: str = input_file()
    """Path of a UTF-8 text file with one word or phrase per line; `#` begins a comment line. What holds
    other signs than letters and digits (`sh!t`, an emoji), or is in a script without spaces between
    words, counts where it stands as it is written."""


def words_score(name: str) -> str:
    """Return the name of the score of a list of words."""
    return f"words_{name}"


class ScreenParams(StrictModel):
    """Which scores are computed; their thresholds stand under `select`."""

    filters: list[str] = list(DEFAULT_FILTERS)
    """Names of the filters; each gives one score per row."""
    words: dict[Name, WordList] = {}
    """Lists of words by name; the list `profanity` gives the score `words_profanity`, the number of its
    words in the caption."""
    perceptual_hash: bool = True
    """Whether the perceptual hash of each image is computed, which `dedup.perceptual` needs."""

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
                    f"words.{name}: its score would be {words_score(name)}, which is the name of a "
                    "filter; rename the list"
                )
        return self

    @field_validator("filters")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            FILTERS.check(name)
        if len(set(names)) != len(names):
            raise ValueError("a filter is listed more than once; list it once")
        return names


STAGE = Stage(
    number=20,
    name="screen",
    kind="map",
    params=ScreenParams,
    writes="scores",
    reads=(Read("images"),),
    version=4,
    decodes=True,
    versions=lambda params: FILTERS.versions(params.filters),
)
