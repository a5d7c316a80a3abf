"""How many rows and pictures a recipe comes to."""

from __future__ import annotations

from dataclasses import dataclass

from curation.errors import RecipeError
from curation.inspect.composition import expected_composition, expected_total
from curation.inspect.cost.rates import Assumptions
from curation.recipe import Recipe


@dataclass(frozen=True)
class Counts:
    """Rows and pictures by role, from the recipe and the assumptions."""

    asked: float
    pool: float
    seeds: float
    held_out: float
    eligible: float
    final: float
    fragments: float

    @property
    def images(self) -> float:
        """Pictures of all roles."""
        return self.pool + self.seeds + self.held_out


def counts_of(recipe: Recipe, given: Assumptions) -> Counts:
    """Return what a recipe's declared counts come to.

    Raises:
        RecipeError: a source has no `count`, or an arm does not tell what it will give.
    """
    silent = [source.name for source in recipe.sources if source.count is None]
    if silent:
        raise RecipeError(
            f"A cost needs `count` on every source; these have none: {', '.join(silent)}"
        )
    by_role = {
        role: float(sum(s.count or 0 for s in recipe.sources if s.role == role))
        for role in ("pool", "seed", "held_out")
    }
    composition = expected_composition(recipe)
    final = expected_total(composition)
    if final is None:
        silent = [row["arm"] for row in composition if row["final"] is None]
        raise RecipeError(
            f"A cost needs to know what each arm gives; these do not say: {', '.join(silent)}. "
            "Give a cluster arm `expected_clusters`."
        )
    if recipe.balance.target is not None:
        final = min(final, recipe.balance.target)
    asked = sum(by_role.values())
    pool = by_role["pool"] * given.fetched
    default = type(recipe.ingest).model_fields["rows_per_fragment"].default
    own = recipe.ingest.rows_per_fragment
    per_fragment = given.rows_per_fragment if own == default else own
    return Counts(
        asked=asked,
        pool=pool,
        seeds=by_role["seed"],
        held_out=by_role["held_out"],
        eligible=pool * given.distinct * given.clean * given.fit,
        final=float(final),
        fragments=max(1.0, asked / per_fragment),
    )
