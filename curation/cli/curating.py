"""Commands that plan, measure, run and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as Grid

from curation.cli.app import RecipePath, StorePath, app, dataset_folder, err, out
from curation.flow import Step, plan, run_fingerprint
from curation.inspect.composition import expected_composition, expected_total
from curation.recipe import Recipe, load_recipe

# -- plan -----------------------------------------------------------------------------------------


@app.command("plan")
def plan_command(
    recipe: RecipePath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    cost: Annotated[
        bool, typer.Option("--cost", help="Predict hours, bytes and money from declared counts.")
    ] = False,
    rates: Annotated[
        str | None, typer.Option("--rates", help="YAML of `curation calibrate`; needs --cost.")
    ] = None,
    prices: Annotated[str | None, typer.Option("--prices", help="YAML of prices.")] = None,
    assume: Annotated[
        list[str] | None, typer.Option("--assume", help="NAME=NUMBER; may be repeated.")
    ] = None,
) -> None:
    """Show the steps of a recipe and what its arms are expected to give, without opening data."""
    loaded = load_recipe(recipe)
    if cost:
        from curation.inspect.cost.console import tell_cost

        tell_cost(loaded, rates, prices, assume or [], out, as_json)
        return
    steps = plan(loaded)
    composition = expected_composition(loaded)
    total = expected_total(composition)
    if as_json:
        out.print_json(json.dumps(_plan_json(loaded, steps, composition, total)))
        return
    grid = Grid("stage", "reads", "writes", "fingerprint", title=f"Plan of {loaded.name}")
    for step in steps:
        reads = ", ".join(step.inputs) or "sources"
        grid.add_row(step.name, reads, ", ".join(step.tables), step.fingerprint[:12])
    out.print(grid)
    if composition:
        out.print(composition_grid("Expected composition", composition, total, out))


def _plan_json(
    recipe: Recipe, steps: tuple[Step, ...], composition: list[dict[str, Any]], total: int | None
) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "run": run_fingerprint(recipe),
        "steps": [
            {
                "stage": s.name,
                "number": s.stage.number,
                "kind": s.stage.kind,
                "upstream": list(s.upstream),
                "reads": list(s.inputs),
                "tables": list(s.tables),
                "job": s.stage.job,
                "gpus": int(s.stage.gpu),
                "fingerprint": s.fingerprint,
            }
            for s in steps
        ],
        "composition": composition,
        "total_images": total,
    }


LESS = ("seed_set", "seed_rows", "strategy", "seed_images", "retrieved", "available")
"""Columns of a composition that a narrow terminal leaves out, one after the other."""
WIDEST = 1000


def composition_grid(
    title: str, rows: list[dict[str, Any]], total: int | None, console: Console
) -> Grid:
    """Return the composition as a table that the console shows without breaking a word."""
    # Seed rows and sets stand in the Parquet file and the report.
    first = 2 if "capped" in rows[0] else 0
    for hidden in range(first, len(LESS) + 1):
        names = [name for name in rows[0] if name not in LESS[:hidden]]
        grid = _grid_of(title, rows, total, names)
        wanted = Measurement.get(console, console.options.update_width(WIDEST), grid).maximum
        if wanted <= console.width:
            break
    left_out = [name.replace("_", " ") for name in LESS[first:hidden] if name in rows[0]]
    if left_out:
        grid.caption = f"For want of room without: {', '.join(left_out)}"
    return grid


def _grid_of(title: str, rows: list[dict[str, Any]], total: int | None, names: list[str]) -> Grid:
    grid = Grid(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), collapse_padding=True)
    for name in names:
        left = name in ("arm", "strategy", "seed_set")
        # A header may take two lines, a value may not.
        header = name.replace("_", "\n")
        grid.add_column(header, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        grid.add_row(
            *(f"{row[n]:,}" if isinstance(row[n], int) else str(row[n] or "–") for n in names)
        )
    grid.add_section()
    said = {"arm": "total", "final": "–" if total is None else f"{total:,}"}
    grid.add_row(*(said.get(name, "") for name in names))
    return grid


@app.command()
def calibrate(
    to: Annotated[str, typer.Option("--out", help="YAML file to write.")],
) -> None:
    """Measure what this machine does in a second, for `curation plan --cost --rates FILE`."""
    import yaml

    from curation.inspect.cost.calibrate import calibrate as measured

    spec = measured().model_dump()
    Path(to).write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    for name, value in spec.items():
        out.print(f"{name:<16} {value}")


# -- run ------------------------------------------------------------------------------------------


@app.command()
def run(
    recipe: RecipePath,
    store: StorePath,
    only: Annotated[str | None, typer.Option("--only", help="Run one stage.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="Start at this stage.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="End with this stage.")] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", help="Name or path of a conf/clusters file.")
    ] = "local",
) -> None:
    """Bring the tables of a recipe up to date; what is finished is not done again."""
    from curation.engine.spark import load_cluster
    from curation.engine.store import DATASET, Store
    from curation.launch import run_steps, select_steps

    loaded = load_recipe(recipe)
    steps = select_steps(plan(loaded), only, first, until)
    opened = Store(store)
    err.print(f"Recipe [bold]{escape(loaded.name)}[/] into {escape(opened.uri)}")
    outcomes = run_steps(steps, loaded, opened, load_cluster(cluster), _print_outcome)
    if all(o.up_to_date for o in outcomes):
        out.print("Nothing to do: every table is up to date.")
    if any(step.tables == (DATASET,) for step in steps):
        from curation.inspect.report.build import write_report

        write_report(loaded, opened)
        _print_result(opened, loaded)


def _print_outcome(outcome: Any) -> None:
    if outcome.up_to_date:
        did = "up to date"
    else:
        did = f"{outcome.computed} computed" + (
            f", {outcome.reused} reused" if outcome.reused else ""
        )
    err.print(
        f"  {outcome.step.name:<11} {outcome.rows:>10,} rows  {outcome.seconds:6.1f} s  {did}"
    )


def _print_result(store: Any, recipe: Recipe) -> None:
    from curation.engine.table import open_table
    from curation.inspect.composition import composition_of
    from curation.inspect.report.build import report_path
    from curation.stages.retrieve.balance import describe_target

    claims = open_table(store, "claims").manifest
    rows, total = composition_of(claims)
    dataset = open_table(store, "dataset")
    out.print(composition_grid(f"Composition of {recipe.name}", rows, total, out))
    if "target" in claims.stats:
        out.print(f"target   {describe_target(claims.stats['target'])}")
    out.print(f"dataset  {dataset.rows:,} images: {store.address(dataset_folder(dataset))}")
    out.print(f"report   {store.address(report_path(recipe))}")


@app.command()
def report(recipe: RecipePath, store: StorePath) -> None:
    """Write the HTML report and the composition of a finished run again."""
    from curation.engine.store import Store
    from curation.inspect.report.build import write_report

    opened = Store(store)
    out.print(opened.address(write_report(load_recipe(recipe), opened)))
