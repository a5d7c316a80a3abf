"""Counts how many rows and images a recipe is expected to have in each stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from curation.errors import Detail, RecipeError
from curation.inspect.composition import expected_composition, expected_total
from curation.inspect.cost.rates import Assumptions
from curation.recipe import Recipe
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm


@dataclass(frozen=True)
class ExpectedCounts:
    """Expected counts of a run.

    Attributes:
        rows: rows of all sources.
        pool: pool images that are fetched.
        seeds: images of seed sets.
        held_out: held-out images.
        eligible: pool images that arms may take.
        final: claims in the dataset.
        fragments: number of fragments.
    """

    rows: float
    pool: float
    seeds: float
    held_out: float
    eligible: float
    final: float
    fragments: float

    @property
    def images(self) -> float:
        """Images of all roles."""
        return self.pool + self.seeds + self.held_out


def expected_counts(recipe: Recipe, assumptions: Assumptions) -> ExpectedCounts:
    """Return the counts that follow from a recipe's declared counts and the assumptions.

    Raises:
        RecipeError: a source has no `count`, or an arm does not say how many images it adds.
    """
    undeclared = [source.name for source in recipe.sources if source.count is None]
    if undeclared:
        raise RecipeError(
            Detail(
                "The cost of a recipe follows from the number of rows of each source, and these "
                f"sources do not declare it: {', '.join(undeclared)}",
                "sources",
                fix="Add `count` (a number of rows) to each of them",
            )
        )
    by_role = {
        role: float(sum(s.count or 0 for s in recipe.sources if s.role == role))
        for role in ("pool", "seed", "held_out")
    }
    rows = sum(by_role.values())
    fetched = assumptions.fetched if recipe.fetch.pixels == "fetch" else 1.0
    pool = by_role["pool"] * fetched
    removes = bool(by_role["held_out"]) and recipe.dedup.held_out is not None
    clean = assumptions.clean if removes else 1.0
    eligible = pool * assumptions.distinct * clean * assumptions.fit
    return ExpectedCounts(
        rows=rows,
        pool=pool,
        seeds=by_role["seed"],
        held_out=by_role["held_out"],
        eligible=eligible,
        final=_expected_final(recipe, eligible),
        fragments=max(1.0, rows / _rows_per_fragment(recipe, assumptions)),
    )


def _expected_final(recipe: Recipe, eligible: float) -> float:
    """Return the expected number of claims in the dataset, within the caps per seed set and the target.

    What caps per cluster and host leave out cannot be foreseen.

    Args:
        recipe: the recipe.
        eligible: pool images that arms may take.

    Raises:
        RecipeError: an arm does not say how many images it adds.
    """
    whole_pool = {arm.name for arm in recipe.arms if arm.takes_pool}
    composition = [
        row | {"final": eligible} if row["arm"] in whole_pool else row
        for row in expected_composition(recipe)
    ]
    if expected_total(composition) is None:
        unknown = {row["arm"] for row in composition if row["final"] is None}
        problems = [_problem(arm) for arm in recipe.arms if arm.name in unknown]
        raise RecipeError(
            *problems,
            within="The cost of a recipe follows from the number of images that each arm adds, and "
            "these arms do not say it",
        )
    by_set: Counter[str] = Counter()
    for row in composition:
        by_set[row["seed_set"] or ""] += row["final"]
    caps = recipe.balance.per_seed_set
    total = sum(min(final, caps.get(name, final)) for name, final in by_set.items())
    target = recipe.balance.target
    return float(total if target is None else min(total, target))


def _problem(arm: Arm) -> Detail:
    """Return which arm does not say how many images it adds, and what to add."""
    name = f"arm {arm.name!r} (strategy {arm.strategy!r})"
    # By convention an `expected_…` parameter of an arm is what only the data knows.
    missing = [
        field
        for field in type(arm).model_fields
        if field.startswith("expected_") and getattr(arm, field) is None
    ]
    if missing:
        return Detail(f"add `{'` and `'.join(missing)}` to the arm", name)
    return Detail(
        "its method `StrategyArm.expected` returns None for `final`",
        name,
        fix=f"Let it return a number, in {STRATEGIES.module_of(arm.strategy)}",
    )


def _rows_per_fragment(recipe: Recipe, assumptions: Assumptions) -> int:
    default = type(recipe.ingest).model_fields["rows_per_fragment"].default
    declared = recipe.ingest.rows_per_fragment
    return assumptions.rows_per_fragment if declared == default else declared
