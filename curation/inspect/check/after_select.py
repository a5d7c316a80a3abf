"""Which thresholds had no effect, or left nothing, by the counts of the stage select."""

from __future__ import annotations

from collections.abc import Iterator

from curation.inspect.check.findings import Finding
from curation.inspect.check.warnings import idle_threshold
from curation.recipe import Recipe
from curation.store.manifest import Manifest

_AFTER_THRESHOLDS = ("copy_", "vector_")
"""How outcomes begin that a row can have only after it passed all thresholds."""


def idle_after_select(recipe: Recipe, eligible: Manifest) -> Iterator[Finding]:
    """Yield the thresholds that all or none of the rows pass that reach them.

    Args:
        recipe: the recipe.
        eligible: the version of `eligible` that select wrote.
    """
    outcomes = eligible.counts.get("pool", {})
    reached = sum(
        rows
        for outcome, rows in outcomes.items()
        if outcome == "eligible" or outcome.startswith(_AFTER_THRESHOLDS)
    )
    warnings = []
    for score, threshold in reversed(recipe.thresholds.items()):
        dropped, passing = outcomes.get(score, 0), reached
        reached += dropped
        if reached and not (dropped and passing):
            warnings.append(
                idle_threshold(score, threshold, passing, reached, "rows that reach it")
            )
    yield from reversed(warnings)
