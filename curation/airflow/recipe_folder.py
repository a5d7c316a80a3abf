"""A DAG for each recipe of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from curation.airflow.dags import curation_dag
from curation.airflow.params import beside
from curation.airflow.telemetry import Telemetry
from curation.errors import CurationError, Detail, RecipeError
from curation.recipe import load_recipe


class BrokenRecipes(DAG):
    """Stands for recipes of a folder that cannot be planned: Airflow shows its message as the import
    error of the file, and keeps the other DAGs."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("curation-broken-recipes", schedule=None)
        self._problems = problems

    def validate(self) -> None:
        """Refuse to be a DAG.

        Raises:
            RecipeError: always, with every problem.
        """
        raise RecipeError("\n".join(self._problems))


def recipe_dags(variables: Mapping[str, str], suffix: str = "", **options: Any) -> dict[str, DAG]:
    """Return a DAG for each recipe of a folder, named after the recipe.

    Args:
        variables: CURATION_RECIPES (a folder of recipes, or one recipe), CURATION_STORE,
            CURATION_CLUSTER (by default `local`), and those of `Telemetry.of`.
        suffix: added to the names.
        options: see `curation_dag`; a function of the name gives a value for each DAG.

    Raises:
        RecipeError: a variable is missing, or not valid.
    """
    missing = [n for n in ("CURATION_RECIPES", "CURATION_STORE") if not variables.get(n)]
    if missing:
        raise RecipeError(
            f"The environment of Airflow lacks {' and '.join(missing)}",
            fix="Set them to the folder of recipes, and to the folder or URI of the store",
        )
    telemetry = Telemetry.of(variables)
    dags: dict[str, DAG] = {}
    paths, problems = _named(Path(variables["CURATION_RECIPES"]))
    for name, path in paths.items():
        dag_id = name + suffix
        try:
            if suffix and dag_id in paths:
                message = f"its DAG would be {dag_id!r}, as that of {paths[dag_id]}"
                fix = "Give one of the two recipes another name"
                raise RecipeError(Detail(message, str(path), dag_id, fix=fix))
            values = {k: v(dag_id) if callable(v) else v for k, v in options.items()}
            dags[dag_id] = curation_dag(
                dag_id,
                recipe=str(path),
                store=variables["CURATION_STORE"],
                cluster=variables.get("CURATION_CLUSTER") or "local",
                telemetry=telemetry,
                **values,
            )
        except CurationError as error:
            problems.append(str(error))
    return dags | ({"curation-broken-recipes": BrokenRecipes(problems)} if problems else {})


def _named(place: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the recipes of a folder by name, and what is wrong with the others."""
    paths: dict[str, Path] = {}
    problems = []
    for path in _recipes(place):
        try:
            with beside(path):
                name = load_recipe(path.absolute()).name
            if name in paths:
                message = f"{paths[name]} has the name {name!r} too"
                raise RecipeError(Detail(message, str(path), name, fix="Rename one of them"))
            paths[name] = path
        except CurationError as error:
            problems.append(str(error))
    return paths, problems


def _recipes(place: Path) -> list[Path]:
    """Return the recipes of a folder, or the one.

    Raises:
        RecipeError: there are none.
    """
    if place.is_file():
        return [place]
    # Editors and file systems leave hidden files beside a recipe.
    names = ("[!.]*.yaml", "[!.]*.yml")
    recipes = sorted(path for each in names for path in place.glob(each))
    if not recipes:
        message = f"there is no recipe (*.yaml) in {place}"
        fix = "Put a recipe there: `curation init` writes one"
        raise RecipeError(Detail(message, "CURATION_RECIPES", str(place), fix=fix))
    return recipes
