"""The command that prints JSON schemas: of a recipe, of what commands print, of errors."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from curation.cli.app import EXTEND_PANEL, app, out
from curation.cli.facts import ERROR, FACTS, schema_of
from curation.errors import RecipeError, unknown

RECIPE, ERRORS = "recipe", "error"


def _valid() -> list[str]:
    return [RECIPE, ERRORS, *FACTS]


def _complete(incomplete: str) -> list[str]:
    return [name for name in _valid() if name.startswith(incomplete)]


@app.command(rich_help_panel=EXTEND_PANEL)
def schema(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT",
            help="`recipe` (the default), `error`, or a command that takes --json, such as `runs` or "
            "`audit dedup`.",
            autocompletion=_complete,
        ),
    ] = None,
    plugins: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            help="Plug-in whose members a recipe may name, as in the `plugins` of a recipe. It may be "
            "repeated.",
        ),
    ] = None,
) -> None:
    """Print the JSON schema (draft 2020-12) of a recipe, of what a command prints, or of errors.

    Editors complete and check a recipe whose first line is `# yaml-language-server: $schema=FILE`.
    """
    from curation.plugins import load_plugins

    load_plugins(plugins or [])
    out.print_json(json.dumps(_schema(" ".join(what or [RECIPE]))))


def _schema(what: str) -> dict[str, Any]:
    from curation.recipe.schema import recipe_schema

    if what == RECIPE:
        return recipe_schema()
    if what != ERRORS and what not in FACTS:
        raise RecipeError(unknown("schema", what, _valid()))
    return schema_of(ERROR if what == ERRORS else FACTS[what])
