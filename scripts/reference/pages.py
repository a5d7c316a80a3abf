"""Every generated page."""

from __future__ import annotations

from collections.abc import Callable

from scripts.reference.commands import commands_page
from scripts.reference.json_output import json_page
from scripts.reference.recipe import recipe_page
from scripts.reference.registries import registries_page
from scripts.reference.tables import tables_page

PAGES: dict[str, Callable[[], str]] = {
    "reference/recipe.md": recipe_page,
    "reference/tables.md": tables_page,
    "reference/commands.md": commands_page,
    "reference/json.md": json_page,
    "reference/registries.md": registries_page,
}
"""The pages by their path within docs/."""
