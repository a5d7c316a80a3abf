"""The cost of a recipe, told to people or to programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as Grid

from curation.errors import RecipeError
from curation.inspect.cost.counts import counts_of
from curation.inspect.cost.estimate import Cost, estimate
from curation.inspect.cost.rates import Assumptions, Prices, Rates, load, shipped
from curation.inspect.cost.shapes import Shape, shapes_of
from curation.inspect.cost.workload import work_of
from curation.recipe import Recipe, explain

MONTHS = 1.0
DRIVER_GB = 256
"""Memory of a large machine: a stage that holds more on the driver does not fit one."""
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def assumptions(overrides: Sequence[str]) -> Assumptions:
    """Return the assumptions with NAME=NUMBER overrides.

    Raises:
        RecipeError: no such assumption, or a number that cannot be.
    """
    spec: dict[str, Any] = Assumptions().model_dump()
    for override in overrides:
        name, _, value = override.partition("=")
        if name not in spec:
            raise RecipeError(f"No assumption {name!r}. Valid: {', '.join(spec)}")
        spec[name] = value
    try:
        return Assumptions.model_validate(spec)
    except ValidationError as error:
        raise RecipeError(f"--assume: {explain(error, Assumptions)}") from error


def tell_cost(
    recipe: Recipe,
    rates: str | None,
    prices: str | None,
    overrides: Sequence[str],
    out: Console,
    as_json: bool,
) -> None:
    """Print what a recipe would cost, with everything that the figures rest on."""
    given = assumptions(overrides)
    counts_of(recipe, given)
    paid = load(Prices, prices or shipped("prices"))
    speed = load(Rates, rates or shipped("rates"))
    shapes = shapes_of(recipe)
    costs = estimate(work_of(recipe, shapes, given), speed, paid, MONTHS)
    if as_json:
        out.print_json(json.dumps(_json(costs, shapes, given, speed, paid)))
        return
    out.print(_grid(recipe, costs, paid))
    _tell_basis(out, shapes, given, speed, paid)
    for cost in costs:
        if cost.work.driver > DRIVER_GB * 1e9:
            out.print(
                f"[bold]{cost.work.stage}[/] holds {short(cost.work.driver)}B on the driver: more "
                f"than {DRIVER_GB} GB, which this version cannot spread."
            )


def _grid(recipe: Recipe, costs: Sequence[Cost], prices: Prices) -> Grid:
    names = ("stage", "rows", "stored", "moved", "received", "FLOP", "core h", "GPU h", "driver")
    grid = Grid(*names, prices.currency, title=f"Cost of {recipe.name}")
    for column in grid.columns[1:]:
        column.justify = "right"
    for cost in costs:
        work = cost.work
        bytes_ = (work.stored, work.moved, work.received)
        grid.add_row(
            work.stage,
            short(work.rows),
            *(f"{short(b)}B" for b in bytes_),
            short(work.cpu_flop + work.model_flop),
            short(cost.cpu_hours),
            short(cost.gpu_hours),
            f"{short(work.driver)}B",
            f"{cost.money:,.0f}",
        )
    grid.add_section()
    grid.add_row(
        "all",
        "",
        *(f"{short(sum(getattr(c.work, n) for c in costs))}B" for n in ("stored", "moved")),
        f"{short(sum(c.work.received for c in costs))}B",
        short(sum(c.work.cpu_flop + c.work.model_flop for c in costs)),
        short(sum(c.cpu_hours for c in costs)),
        short(sum(c.gpu_hours for c in costs)),
        "",
        f"{sum(c.money for c in costs):,.0f}",
    )
    return grid


def _tell_basis(
    out: Console, shapes: Mapping[str, Shape], given: Assumptions, rates: Rates, prices: Prices
) -> None:
    said = ", ".join(f"{name} {value:g}" for name, value in given.model_dump().items())
    out.print(f"Assumed: {said}.")
    for name, shape in shapes.items():
        out.print(f"Encoder {name}: {shape.dim} numbers, {short(shape.flop)}FLOP a picture.")
    speeds = {k: v for k, v in rates.model_dump().items() if k != "measured_on" and v is not None}
    said = ", ".join(f"{name} {value:g}" for name, value in speeds.items())
    out.print(f"A second of one core (or GPU) of {rates.measured_on}: {said}.")
    costs = {k: v for k, v in prices.model_dump().items() if k != "currency"}
    said = ", ".join(f"{name} {value:g}" for name, value in costs.items())
    out.print(f"Prices in {prices.currency}: {said}; what is stored, for {MONTHS:g} month.")
    out.print(
        "Hours are of one core and of one GPU, all of them busy; queues, retries and stragglers come "
        "on top. `moved` is what tasks read beyond their own fragments."
    )


def _json(
    costs: Sequence[Cost],
    shapes: Mapping[str, Shape],
    given: Assumptions,
    rates: Rates,
    prices: Prices,
) -> dict[str, Any]:
    return {
        "stages": [
            {
                "stage": c.work.stage,
                "rows": c.work.rows,
                "stored_bytes": c.work.stored,
                "moved_bytes": c.work.moved,
                "received_bytes": c.work.received,
                "flop": c.work.cpu_flop + c.work.model_flop,
                "driver_bytes": c.work.driver,
                "cpu_hours": c.cpu_hours,
                "gpu_hours": c.gpu_hours,
                "money": c.money,
            }
            for c in costs
        ],
        "money": sum(c.money for c in costs),
        "encoders": {n: {"dim": s.dim, "flop": s.flop} for n, s in shapes.items()},
        "assumptions": given.model_dump(),
        "rates": rates.model_dump(),
        "prices": prices.model_dump(),
    }


def short(value: float) -> str:
    """Return a number with three digits and a prefix: 1.3G for 1.3 billion."""
    if value < 1:
        return f"{value:.2g}" if value else "0"
    step = 0
    while value >= 999.5 and step < len(PREFIXES) - 1:
        value /= 1000
        step += 1
    return f"{value:.3g}{PREFIXES[step]}"
