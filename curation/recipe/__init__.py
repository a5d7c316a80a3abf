"""The recipe: what to compute, typed and strict, from one YAML.

Imports only the standard library, pydantic and yaml, since schedulers parse recipes again and again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from curation.errors import RecipeError
from curation.plugins import load_plugins
from curation.recipe.checks import disagreements
from curation.recipe.explain import explain
from curation.recipe.model import Recipe
from curation.recipe.yaml_text import load_yaml
from curation.secrets import note_secrets, note_spec

__all__ = ["Recipe", "explain", "load_recipe", "parse_recipe"]


def parse_recipe(spec: Any, where: str = "recipe") -> Recipe:
    """Return the recipe in `spec` (what YAML gave).

    Raises:
        RecipeError: an unknown key, a wrong type or an impossible value, with the valid ones.
    """
    if not isinstance(spec, dict):
        raise RecipeError(f"{where}: a recipe is a mapping with at least `name` and `sources`.")
    note_spec(spec)
    # A block whose lines are all commented out is a block with its defaults.
    spec = {key: value for key, value in spec.items() if value is not None}
    named = spec.get("plugins", [])
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        # They bring names that the other blocks may use.
        load_plugins(named)
    try:
        recipe = Recipe.model_validate(spec)
    except ValidationError as error:
        raise RecipeError(f"{where}:\n  {explain(error, Recipe)}") from error
    problems = list(disagreements(recipe))
    if problems:
        raise RecipeError(f"{where}:\n  " + "\n  ".join(problems))
    return recipe


def load_recipe(path: str | Path) -> Recipe:
    """Return the recipe in the YAML file `path`.

    Raises:
        RecipeError: no such file, not YAML, or not a valid recipe.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Cannot read the recipe {str(path)!r}: {error}") from error
    # Errors of YAML quote the text.
    note_secrets(text)
    try:
        return parse_recipe(load_yaml(text), str(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    except ValueError as error:
        # YAML reads `2024-13-45` as a date.
        raise RecipeError(f"{path}: a value cannot be read: {error}") from error
