"""The command that reports opt-outs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table as Grid

from curation.cli.app import INSPECT_PANEL, AsJson, RunName, StorePath, app, out, print_facts
from curation.cli.existing_store import say_which_recipe
from curation.cli.facts.tables import OptOuts as Facts
from curation.inspect.opt_outs import OptOuts
from curation.recipe import load_recipe
from curation.terminal import one_line


@app.command("opt-outs", rich_help_panel=INSPECT_PANEL)
def opt_outs(
    store: StorePath,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="Path of a recipe, whose latest images count. Without it, those of --run.",
        ),
    ] = None,
    run: RunName = None,
    hosts: Annotated[
        int, typer.Option("--hosts", min=0, help="Number of hosts to list, the largest first.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Count the pictures that were withheld by robots.txt and other opt-outs, by signal and host."""
    from curation.inspect.opt_outs import count_opt_outs, images_of
    from curation.store.store import Store

    loaded = load_recipe(recipe) if recipe is not None else None
    opened = Store(store)
    counts = count_opt_outs(images_of(opened, run, loaded))
    if as_json:
        print_facts(Facts.model_validate(counts.as_json(hosts)))
        return
    if recipe is None and run is None:
        say_which_recipe(opened, "images")
    _print_signals(counts)
    _print_hosts(counts, hosts)


def _print_signals(counts: OptOuts) -> None:
    withheld = counts.by_signal.total()
    out.print(f"{withheld:,} of {counts.rows:,} pictures are withheld by an opt-out.")
    if counts.licensed:
        out.print(f"The hosts of {counts.licensed:,} stored pictures name a licence (RSL).")
    if not withheld:
        return
    grid = Grid("signal", "pictures", "for example")
    grid.columns[1].justify = "right"
    for signal, pictures in counts.by_signal.most_common():
        first = counts.examples[signal][0]
        grid.add_row(signal, f"{pictures:,}", one_line(f"{first['text']}  ({first['place']})"))
    out.print(grid)


def _print_hosts(counts: OptOuts, count: int) -> None:
    listed = counts.top_hosts(count)
    if not listed:
        return
    grid = Grid("host", "pictures", "signals")
    grid.columns[1].justify = "right"
    for host, signals in listed:
        of_host = ", ".join(f"{signal} {pictures:,}" for signal, pictures in signals.most_common())
        grid.add_row(one_line(host), f"{signals.total():,}", of_host)
    out.print(grid)
    if len(counts.by_host) > len(listed):
        out.print(f"{len(counts.by_host) - len(listed):,} more hosts: --hosts lists more.")
