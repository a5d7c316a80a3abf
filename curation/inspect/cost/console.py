"""Prints the cost of a recipe, as tables for people or as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as Grid

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
from curation.terminal import styled

MONTHS = 1.0
"""How long what is stored is paid for."""
DRIVER_GB = 256
"""Memory of a large machine; a stage that needs more on the driver does not fit one."""
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


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
        searches = {name: _sums(costs) for name, costs in self.searches.items()}
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


def print_cost(recipe: Recipe, cost: RecipeCost, out: Console) -> None:
    """Print what a recipe would cost, and everything that the figures rest on.

    Args:
        recipe: the recipe.
        cost: of `cost_of`.
        out: where to print.
    """
    out.print(_cost_grid(recipe, cost.stages, cost.basis.prices))
    _print_searches(out, cost)
    _print_basis(out, cost.basis)
    _print_driver_warnings(out, cost.stages)


def _cost_grid(recipe: Recipe, costs: Sequence[Cost], prices: Prices) -> Grid:
    names = (
        "stage",
        "rows",
        "stored",
        "moved",
        "received",
        "FLOP",
        "on",
        "core h",
        "GPU h",
        "driver",
    )
    grid = Grid(*names, prices.currency, title=f"Cost of {recipe.name}")
    for column in grid.columns[1:]:
        column.justify = "right"
    for cost in costs:
        work = cost.work
        grid.add_row(
            work.stage,
            format_si(work.rows),
            *(f"{format_si(b)}B" for b in (work.stored, work.moved, work.received)),
            format_si(work.flop),
            cost.device,
            format_si(cost.cpu_hours),
            format_si(cost.gpu_hours),
            f"{format_si(work.driver)}B",
            f"{cost.money:,.0f}",
        )
    grid.add_section()
    totals = (sum(getattr(c.work, name) for c in costs) for name in ("stored", "moved", "received"))
    grid.add_row(
        "all",
        "",
        *(f"{format_si(total)}B" for total in totals),
        format_si(sum(c.work.flop for c in costs)),
        "",
        format_si(sum(c.cpu_hours for c in costs)),
        format_si(sum(c.gpu_hours for c in costs)),
        "",
        f"{sum(c.money for c in costs):,.0f}",
    )
    return grid


def _sums(costs: Sequence[Cost]) -> dict[str, float]:
    names = ("cpu_hours", "gpu_hours", "money")
    return {name: sum(getattr(cost, name) for cost in costs) for name in names}


def _print_searches(out: Console, cost: RecipeCost) -> None:
    """Print what exact search and an index would cost, the cheaper one first."""
    sums = {name: _sums(costs) for name, costs in cost.searches.items()}
    parts = [
        f"match: {{index: {name}}} {format_si(one['cpu_hours'])} core h, "
        f"{format_si(one['gpu_hours'])} GPU h, {one['money']:,.0f} {cost.basis.prices.currency}"
        for name, one in sorted(sums.items(), key=lambda item: item[1]["money"])
    ]
    if parts:
        out.print(
            f"The search of the pool with quantise and index, cheapest first: {'; '.join(parts)}."
        )


def _print_basis(out: Console, basis: Basis) -> None:
    rates = basis.rates.model_dump(exclude={"measured_on"}, exclude_none=True)
    prices = basis.prices.model_dump(exclude={"currency"})
    out.print(f"Assumptions: {_format_values(basis.assumptions.model_dump())}.")
    for name, encoder in basis.encoders.items():
        flop = format_si(encoder.flop)
        out.print(f"Encoder {name}: {encoder.dim} dimensions, {flop}FLOP per image.")
    out.print(
        f"Rates of one core (or GPU) per second, measured on {basis.rates.measured_on}: "
        f"{_format_values(rates)}."
    )
    out.print(
        f"Prices in {basis.prices.currency}: {_format_values(prices)}. Storage is paid for "
        f"{MONTHS:g} month."
    )
    out.print(
        "Hours are those of one core and of one GPU that are always busy; waiting, retries and slow "
        "tasks add to them. The column on says where models and products of vectors are planned. The "
        "column moved counts bytes that tasks read beyond their own fragments. The column driver is "
        "the memory that the driver needs."
    )


def _format_values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _print_driver_warnings(out: Console, costs: Sequence[Cost]) -> None:
    for cost in costs:
        if cost.work.driver > DRIVER_GB * 1e9:
            out.print(
                styled(
                    (cost.work.stage, "bold"),
                    f" needs {format_si(cost.work.driver)}B of memory on the driver. That is more than "
                    f"{DRIVER_GB} GB, and this version cannot move it to workers.",
                )
            )


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


def format_si(value: float) -> str:
    """Return a number with three digits and an SI prefix: 1.3G for 1.3 billion."""
    if value < 1:
        return f"{value:.2g}" if value else "0"
    step = 0
    while value >= 999.5 and step < len(PREFIXES) - 1:
        value /= 1000
        step += 1
    return f"{value:.3g}{PREFIXES[step]}"
