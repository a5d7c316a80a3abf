"""Prints the cost of a recipe as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table as Grid

from curation.inspect.cost.estimate import Cost
from curation.inspect.cost.rates import Prices
from curation.inspect.cost.recipe_cost import MONTHS, Basis, RecipeCost, sums_of
from curation.recipe import Recipe
from curation.terminal import styled

DRIVER_GIB = 16
"""Memory of a driver. The stages of published recipes of up to 1.3 billion images fit it."""
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


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


COLUMNS: Final = (
    *("stage", "rows", "stored", "moved", "received"),
    *("FLOP", "on", "core h", "GPU h", "driver"),
)


def _cost_grid(recipe: Recipe, costs: Sequence[Cost], prices: Prices) -> Grid:
    grid = Grid(*COLUMNS, prices.currency, title=f"Cost of {recipe.name}")
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


def _print_searches(out: Console, cost: RecipeCost) -> None:
    """Print what exact search and an index would cost, the cheaper one first."""
    sums = {name: sums_of(costs) for name, costs in cost.searches.items()}
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
        if cost.work.driver > DRIVER_GIB * 2**30:
            out.print(
                styled(
                    (cost.work.stage, "bold"),
                    f" needs {cost.work.driver / 2**30:.0f} GiB of memory on the driver. That is more "
                    f"than {DRIVER_GIB} GiB, and this version cannot move it to workers: start the "
                    "run on a machine that has so much.",
                )
            )


def format_si(value: float) -> str:
    """Return a number with three digits and an SI prefix: 1.3G for 1.3 billion."""
    if value < 1:
        return f"{value:.2g}" if value else "0"
    step = 0
    while value >= 999.5 and step < len(PREFIXES) - 1:
        value /= 1000
        step += 1
    return f"{value:.3g}{PREFIXES[step]}"
