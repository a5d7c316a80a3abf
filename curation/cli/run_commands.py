"""The commands plan, run, report and calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Grid

from curation.cli.app import (
    RUN_PANEL,
    AsJson,
    RecipePath,
    RunName,
    StorePath,
    app,
    err,
    out,
    print_facts,
)
from curation.cli.composition_grid import composition_grid
from curation.cli.describe import describe_run
from curation.cli.facts.plans import MeasuredRates, Plan, PlanCost
from curation.cli.facts.runs import Report
from curation.cli.output_file import as_yaml
from curation.cli.run_options import (
    AssumptionOverrides,
    ClusterName,
    First,
    Force,
    Metrics,
    NoWait,
    Only,
    OpenLineage,
    OpenLineageParent,
    PricesPath,
    RatesPath,
    Retry,
    SparkUi,
    Until,
    Verify,
)
from curation.cli.run_printer import RunPrinter
from curation.cli.run_report import report_of_run
from curation.cli.telemetry_options import TelemetryOptions
from curation.errors import Detail, RecipeError
from curation.flow import plan, run_fingerprint, select_steps
from curation.inspect.composition import balance_limits, expected_composition, expected_total
from curation.progress import shown_wait
from curation.recipe import Recipe, load_recipe
from curation.recipe.pixels import left_out
from curation.store.dataset_files import dataset_folder
from curation.terminal import styled

if TYPE_CHECKING:
    from curation.store.store import Store


WITHOUT_ARMS = (
    "The recipe has no `retrieve`: the arm `everything` takes every pool image that is no copy and "
    "passes `select`."
)


@app.command("plan", rich_help_panel=RUN_PANEL)
def plan_command(
    recipe: RecipePath,
    as_json: AsJson = False,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost",
            help="Print the expected hours, bytes and money of each stage. Every source of the recipe "
            "must declare its `count`.",
        ),
    ] = False,
    rates: RatesPath = None,
    prices: PricesPath = None,
    assume: AssumptionOverrides = None,
) -> None:
    """Show the stages of a recipe and what its arms are expected to add. No data is opened."""
    loaded = load_recipe(recipe)
    for option, value in {"--rates": rates, "--prices": prices, "--assume": assume}.items():
        if value and not cost:
            message = "it has no effect without --cost"
            raise RecipeError(Detail(message, option, value, fix="Add --cost"))
    if cost:
        from curation.inspect.cost.console import print_cost
        from curation.inspect.cost.recipe_cost import cost_of

        costs = cost_of(loaded, rates, prices, assume or [])
        if as_json:
            print_facts(PlanCost.model_validate(costs.to_json()))
        else:
            print_cost(loaded, costs, out)
    elif as_json:
        print_facts(Plan.model_validate(_plan_to_json(loaded)))
    else:
        _print_plan(loaded)


def _print_plan(recipe: Recipe) -> None:
    grid = Grid("stage", "reads", "writes", "fingerprint", title=f"Plan of {recipe.name}")
    for step in plan(recipe):
        reads = ", ".join(step.inputs) or "sources"
        grid.add_row(step.name, reads, ", ".join(step.tables), step.fingerprint[:12])
    out.print(grid)
    for sentence in left_out(recipe):
        out.print(sentence)
    if not recipe.retrieve:
        out.print(WITHOUT_ARMS)
    composition = expected_composition(recipe)
    total = expected_total(composition)
    out.print(composition_grid("Expected composition", composition, total, out))
    if total is None:
        out.print(
            "The expected total is unknown. It follows from the `count` of every source and from "
            "parameters of arms, such as `expected_clusters`."
        )
    for sentence in balance_limits(recipe):
        out.print(f"Of these, {sentence}")


def _plan_to_json(recipe: Recipe) -> dict[str, Any]:
    composition = expected_composition(recipe)
    return {
        "recipe": recipe.name,
        "run": run_fingerprint(recipe),
        "steps": [
            {
                "stage": step.name,
                "number": step.stage.number,
                "kind": step.stage.kind,
                "upstream": list(step.upstream),
                "reads": list(step.inputs),
                "tables": list(step.tables),
                "job": step.stage.job,
                "gpus": int(step.stage.gpu),
                "fingerprint": step.fingerprint,
            }
            for step in plan(recipe)
        ],
        "left_out": left_out(recipe),
        "composition": composition,
        "total_images": expected_total(composition),
    }


@app.command(rich_help_panel=RUN_PANEL)
def run(
    recipe: RecipePath,
    store: StorePath,
    only: Only = None,
    first: First = None,
    until: Until = None,
    cluster: ClusterName = "local",
    no_wait: NoWait = False,
    retry: Retry = None,
    force: Force = False,
    verify: Verify = False,
    metrics: Metrics = None,
    openlineage: OpenLineage = None,
    openlineage_parent: OpenLineageParent = None,
    spark_ui: SparkUi = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe. Only stages whose inputs or parameters changed are computed again."""
    from curation.cli.verify_commands import print_problems
    from curation.engine.cluster import load_cluster, with_ui
    from curation.launch import RunOptions, run_steps, verify_inputs
    from curation.runner.outcomes import asked_again
    from curation.store.step_log import Waiting
    from curation.store.store import Store
    from curation.telemetry.run_log_file import RunLogFile

    telemetry = TelemetryOptions(metrics, openlineage, openlineage_parent)
    telemetry.empty_metrics()
    loaded = load_recipe(recipe)
    steps = select_steps(plan(loaded), only, first, until)
    recompute = asked_again(steps, force, retry or ())
    opened = Store(store)
    # Before --verify, which may read for hours.
    where = with_ui(load_cluster(cluster)) if spark_ui else load_cluster(cluster)
    observers = telemetry.observers(opened, {})
    err.print(styled("Recipe ", (loaded.name, "bold"), f" into {opened.uri}"))
    damaged = verify_inputs(steps, opened) if verify else []
    if not as_json:
        print_problems(damaged, opened)
    printer = RunPrinter(loaded, opened, err, where.master)
    printer.before(steps)
    waiting = Waiting(wait=not no_wait, notify=err.print)
    with RunLogFile(opened, _print_log) as log:
        options = RunOptions(waiting, recompute, [log, *observers, printer])
        results = run_steps(steps, loaded, opened, where, options)
        report_path = report_of_run(results, loaded, opened, log.run)
    if as_json:
        print_facts(describe_run(loaded.name, results, opened, report_path, damaged, log.path))
        return
    if all(result.up_to_date for result in results):
        out.print("Nothing to do: every table is up to date.")
    if report_path is not None:
        _print_result(opened, loaded, report_path, log.run)


def _print_log(path: str) -> None:
    err.print(styled(f"Log {path}"), soft_wrap=True)


def _print_result(store: Store, recipe: Recipe, path: str, run: str | None) -> None:
    from curation.inspect.composition import composition_of
    from curation.inspect.lineage import trace

    lineage = trace(recipe, store, run)
    claims, dataset = lineage["claims"].manifest, lineage["dataset"]
    rows, total = composition_of(claims)
    out.print(composition_grid(f"Composition of {recipe.name}", rows, total, out, dataset.rows))
    if "target" in claims.stats:
        from curation.stages.retrieve.balance import describe_target

        out.print(f"target   {describe_target(claims.stats['target'])}")
    out.print(
        f"dataset  {dataset.rows:,} images: {store.address(dataset_folder(dataset.manifest.version))}"
    )
    out.print(f"report   {store.address(path)}")


@app.command(rich_help_panel=RUN_PANEL)
def report(
    recipe: RecipePath, store: StorePath, run: RunName = None, as_json: AsJson = False
) -> None:
    """Write the HTML report of a finished run again, with its composition as Parquet."""
    from curation.inspect.report.build import write_report
    from curation.store.store import Store

    opened = Store(store)
    loaded = load_recipe(recipe)
    with shown_wait("Writing the report …"):
        address = opened.address(write_report(loaded, opened, run))
    if as_json:
        print_facts(Report(report=address))
    else:
        out.print(address)


@app.command(rich_help_panel=RUN_PANEL)
def calibrate(
    path: Annotated[
        str, typer.Option("--out", help="YAML file to write the rates to.", callback=as_yaml)
    ],
    as_json: AsJson = False,
) -> None:
    """Measure the rates of this machine, for `curation plan --cost --rates FILE`."""
    import yaml

    from curation.inspect.cost.calibrate import calibrate as measure

    rates = measure().model_dump()
    Path(path).write_text(yaml.safe_dump(rates, sort_keys=False), encoding="utf-8")
    if as_json:
        print_facts(MeasuredRates(path=path, rates=rates))
        return
    for name, value in rates.items():
        out.print(f"{name:<17} {value}")
