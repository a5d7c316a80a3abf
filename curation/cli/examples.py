"""One example of each command, for the help of the program and of the command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

EXAMPLES = {
    "init": "curation init photos --seeds favourites",
    "check": "curation check recipe.yaml --store data/store",
    "quickstart": "curation quickstart",
    "where": "curation where jobs",
    "schema": "curation schema run",
    "plan": "curation plan recipe.yaml --cost",
    "run": "curation run recipe.yaml --store data/store",
    "report": "curation report recipe.yaml --store data/store",
    "calibrate": "curation calibrate --out rates.yaml",
    "weights": "curation weights recipe.yaml",
    "show": "curation show images --store data/store",
    "path": "curation path dataset --store data/store",
    "search": "curation search recipe.yaml --store data/store --image photo.jpg",
    "why": "curation why https://host.example/1.jpg --store data/store",
    "sql": 'curation sql data/store "SELECT reason, count(*) FROM eligible GROUP BY reason"',
    "diff": "curation diff data/store@1e1b272228de data/store",
    "opt-outs": "curation opt-outs --store data/store",
    "audit": "curation audit dedup recipe.yaml --store data/store",
    "train-filter": "curation train-filter recipe.yaml --store data/store --labels labels.parquet "
    "--out head.safetensors",
    "plugins": "curation plugins",
    "status": "curation status --store data/store",
    "runs": "curation runs --store data/store",
    "versions": "curation versions dataset --store data/store",
    "gc": "curation gc --store data/store --dry-run",
    "tag": "curation tag published --store data/store",
    "restore": "curation restore published --store data/store",
    "forget": 'curation forget --store data/store --host a.example --by "N. N." --reason "request 17"',
    "verify-store": "curation verify-store --store data/store",
}
"""A command line by the name of its command. Each is valid, and has no bracket, which marks styles."""


def add_examples(app: typer.Typer) -> None:
    """Show the example of each command in the list of commands, and at the end of its own help.

    Args:
        app: with all commands.
    """
    style = "[dim]{}[/dim]" if app.rich_markup_mode else "Example: {}"
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        example = EXAMPLES.get(name)
        if example is None:
            continue
        command.short_help = f"{_first_paragraph(command.callback)}\n{style.format(example)}"
        command.epilog = f"Example: {example}"
    for group in app.registered_groups:
        inner = group.typer_instance
        example = EXAMPLES.get(group.name or "")
        if inner is not None and example is not None:
            group.short_help = f"{inner.info.help}\n{style.format(example)}"
            for command in inner.registered_commands:
                # In plain text, help without a short form is cut.
                command.short_help = _first_paragraph(command.callback)


def _first_paragraph(function: Callable[..., Any] | None) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
