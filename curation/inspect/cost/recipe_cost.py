"""The cost of a recipe: its stages by rates and prices, as values that JSON can hold, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from curation.engine.explain import explain
from curation.errors import RecipeError, unknown
from curation.inspect.cost.counts import expected_counts
from curation.inspect.cost.encoder_profiles import EncoderProfile, profile_encoders
from curation.inspect.cost.estimate import Cost, estimate
from curation.inspect.cost.rates import Assumptions, Prices, Rates, default_file, load_yaml
from curation.inspect.cost.searches import search_alternatives
from curation.inspect.cost.work import Work
from curation.inspect.cost.workload import cost_inputs, work_of_stages
from curation.recipe import Recipe

MONTHS = 1.0
"""How long what is stored is paid for."""


@dataclass(frozen=True)
class Basis:
    """What the figures of an estimate rest on."""

    encoders: Mapping[str, EncoderProfile]
    assumptions: Assumptions
    rates: Rates
    prices: Prices


@dataclass(frozen=True)
class RecipeCost:
    """What the stages of a recipe cost, and what the figures rest on."""

    stages: Sequence[Cost]
    basis: Basis
    searches: Mapping[str, Sequence[Cost]] = field(default_factory=dict)
    """The costs of `quantise`, `index` and `match` by exact search and by an index."""

    def to_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        searches = {name: sums_of(costs) for name, costs in self.searches.items()}
        return _to_json(self.stages, self.basis) | {"searches": searches}


def parse_assumptions(overrides: Sequence[str]) -> Assumptions:
    """Return the default assumptions with overrides of the form NAME=NUMBER.

    Raises:
        RecipeError: there is no such assumption, or its number is not valid.
    """
    spec: dict[str, Any] = Assumptions().model_dump()
    for override in overrides:
        name, _, value = override.partition("=")
        if name not in spec:
            raise RecipeError(unknown("assumption", name, spec, where="--assume"))
        spec[name] = value
    try:
        return Assumptions.model_validate(spec)
    except ValidationError as error:
        raise RecipeError(*explain(error, Assumptions), within="--assume") from error


def cost_of(
    recipe: Recipe, rates: str | None, prices: str | None, overrides: Sequence[str]
) -> RecipeCost:
    """Return what a recipe would cost, and everything that the figures rest on.

    Args:
        recipe: with `count` on every source.
        rates: path of a YAML file of rates; None for the default file.
        prices: path of a YAML file of prices; None for the default file.
        overrides: assumptions of the form NAME=NUMBER.

    Raises:
        RecipeError: a count is missing, or a file or an assumption is not valid.
    """
    assumptions = parse_assumptions(overrides)
    # Profiling encoders takes seconds, so incomplete counts are refused first.
    expected_counts(recipe, assumptions)
    basis = Basis(
        assumptions=assumptions,
        prices=load_yaml(Prices, prices or default_file("prices")),
        rates=load_yaml(Rates, rates or default_file("rates")),
        encoders=profile_encoders(recipe),
    )
    inputs = cost_inputs(recipe, basis.encoders, assumptions)

    def priced(works: Sequence[Work]) -> Sequence[Cost]:
        return estimate(works, basis.rates, basis.prices, MONTHS)

    searches = {name: priced(works) for name, works in search_alternatives(inputs).items()}
    return RecipeCost(priced(work_of_stages(recipe, basis.encoders, assumptions)), basis, searches)


def sums_of(costs: Sequence[Cost]) -> dict[str, float]:
    """Return the hours of cores and GPUs and the price of some stages together."""
    names = ("cpu_hours", "gpu_hours", "money")
    return {name: sum(getattr(cost, name) for cost in costs) for name in names}


def _to_json(costs: Sequence[Cost], basis: Basis) -> dict[str, Any]:
    return {
        "stages": [
            {
                "stage": c.work.stage,
                "rows": c.work.rows,
                "stored_bytes": c.work.stored,
                "moved_bytes": c.work.moved,
                "received_bytes": c.work.received,
                "flop": c.work.flop,
                "device": c.device,
                "driver_bytes": c.work.driver,
                "cpu_hours": c.cpu_hours,
                "gpu_hours": c.gpu_hours,
                "money": c.money,
            }
            for c in costs
        ],
        "money": sum(c.money for c in costs),
        "encoders": {name: {"dim": e.dim, "flop": e.flop} for name, e in basis.encoders.items()},
        "assumptions": basis.assumptions.model_dump(),
        "rates": basis.rates.model_dump(),
        "prices": basis.prices.model_dump(),
    }
