"""The recipe: what to compute, typed and strict, from one YAML.

Imports only the standard library, pydantic and yaml, since schedulers parse recipes again and again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from curation.engine.explain import explain
from curation.engine.yaml_text import load_yaml
from curation.errors import Detail, RecipeError, start_of_paths
from curation.plugins import load_plugins
from curation.recipe.checks import disagreements
from curation.recipe.model import Recipe
from curation.secrets import note_secrets, note_spec

_MAX_BYTES = 1 << 20
"""Of a recipe: more takes minutes to parse."""

__all__ = ["Recipe", "explain", "load_recipe", "parse_recipe"]


def parse_recipe(spec: Any, where: str = "recipe") -> Recipe:
    """Return the recipe in `spec` (what YAML gave).

    Raises:
        RecipeError: an unknown key, a wrong type or an impossible value, with the valid ones.
    """
    if not isinstance(spec, dict):
        raise RecipeError(
            Detail(
                "a recipe is a mapping with at least `name` and `sources`",
                where,
                type(spec).__name__,
            )
        )
    note_spec(spec)
    # A block whose lines are all commented out is a block with its defaults.
    spec = {key: value for key, value in spec.items() if value is not None}
    named = spec.get("plugins", [])
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        # They bring names that the other blocks may use.
        try:
            load_plugins(named)
        except RecipeError as error:
            raise RecipeError(*error.details, within=where) from error
    try:
        recipe = Recipe.model_validate(spec)
    except ValidationError as error:
        raise RecipeError(*explain(error, Recipe), within=where) from error
    details = list(disagreements(recipe))
    if details:
        raise RecipeError(*details, within=where)
    return recipe


def load_recipe(path: str | Path) -> Recipe:
    """Return the recipe in the YAML file `path`.

    Raises:
        RecipeError: no such file, not YAML, or not a valid recipe.
    """
    text = _read(path)
    # Errors of YAML quote the text.
    note_secrets(text)
    try:
        return parse_recipe(load_yaml(text), str(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(_not_yaml(error, str(path))) from error


def _read(path: str | Path) -> str:
    try:
        # It may be a pipe, as the shell makes one of `<(…)`.
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        message = f"Cannot read the recipe {str(path)!r}: {error.strerror}"
        fix = f"Name the YAML file of a recipe. {start_of_paths()}"
        raise RecipeError(Detail(message, str(path), fix=fix)) from error
    if len(content) > _MAX_BYTES:
        problem = f"The recipe {str(path)!r} has more than {_MAX_BYTES:,} bytes"
        raise RecipeError(Detail(problem, str(path), fix="Name the YAML file of a recipe"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"The recipe {str(path)!r} is not in UTF-8 ({error})"
        raise RecipeError(Detail(problem, str(path), fix="Save it in UTF-8")) from error


def _not_yaml(error: Exception, path: str) -> Detail:
    mark = getattr(error, "problem_mark", None)
    line = f"{path}:{mark.line + 1}" if mark is not None else path
    fix = "Indent with spaces, and write a text that holds `: `, ` #` or a bracket in quotes"
    return Detail(f"{path} is not YAML: {error}", line, fix=fix)
