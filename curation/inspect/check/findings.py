"""What a check knows, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from curation.inspect.check.machine import Machine
from curation.inspect.check.survey import Survey
from curation.inspect.check.trial import Trial
from curation.recipe import Recipe

if TYPE_CHECKING:
    from curation.inspect.check.estimate import Estimate


@dataclass(frozen=True)
class Finding:
    """Something that a user should know before a run.

    Attributes:
        code: its kind.
        where: the place in the recipe.
        text: what it is.
        fix: what to do.
    """

    code: str
    where: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}. {self.fix}"


@dataclass(frozen=True)
class Facts:
    """What a check knows.

    Attributes:
        recipe: the recipe.
        surveys: of the sources that could be read.
        trial: what a sample of local pictures of the pool shows.
        curated: what one of those of seeds and held-out sets shows.
        machine: what the machine has; None if it was not looked at.
        slow_precisions: as the attribute of `Machine`; empty where they were not measured.
        estimate: what the run would need; None if it was not estimated.
    """

    recipe: Recipe
    surveys: Sequence[Survey]
    trial: Trial = field(default_factory=Trial)
    curated: Trial = field(default_factory=Trial)
    machine: Machine | None = None
    slow_precisions: Mapping[str, float] = field(default_factory=dict)
    estimate: Estimate | None = None

    def of_role(self, role: str) -> list[Survey]:
        """Return the surveys of the sources of a role."""
        return [survey for survey in self.surveys if survey.source.role == role]

    @property
    def pool_rows(self) -> int:
        """Rows of the pool; 0 if a source of it could not be read."""
        pool = self.of_role("pool")
        is_known = len(pool) == len(self.recipe.with_role("pool"))
        return sum(survey.rows for survey in pool) if is_known else 0
