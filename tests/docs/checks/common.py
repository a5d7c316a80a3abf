"""What the checks share: a recipe, and one step of it on tables written by hand."""

from __future__ import annotations

from typing import Any

from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.errors import CurationError
from curation.flow import plan
from curation.recipe import Recipe, parse_recipe
from curation.store.store import Store
from tests.tables import commit, run_step

IDS = [f"{number:032x}" for number in range(4)]


def recipe_with(**blocks: Any) -> Recipe:
    """A small recipe with some blocks of its own."""
    source = {"name": "web", "role": "pool", "format": "folder", "path": "pool"}
    return parse_recipe({"name": "own", "sources": [source]} | blocks)


def run_stage(name: str, recipe: Recipe, store: Store) -> Table:
    """Run one stage on what is in the store, and return the table that it wrote."""
    (step,) = (step for step in plan(recipe) if step.name == name)
    run_step(step, store, InProcess())
    return open_table(store, step.tables[0])


def refuses(function: Any, *arguments: Any) -> bool:
    """Whether a call raises an error that a user can mend."""
    try:
        function(*arguments)
    except CurationError:
        return True
    return False


def image_rows() -> list[dict[str, Any]]:
    """Four fetched rows of `images`."""
    base: dict[str, Any] = {
        "role": "pool",
        "source": "web",
        "status": "ok",
        "caption": "a bird",
        "sha256": "0" * 64,
    }
    base |= {"width": 40, "height": 30, "original_width": 80, "original_height": 60}
    return [base | {"pair_id": i, "image_id": i, "url": f"http://example.org/{i}"} for i in IDS]


def commit_no_copies(store: Store, rows: list[dict[str, Any]]) -> None:
    """Commit `copies` in which every row represents itself."""
    copies = [
        row
        | dict.fromkeys(("component_id", "representative_id"), row["image_id"])
        | {"representative_pair_id": row["pair_id"], "method": "representative"}
        for row in rows
    ]
    commit(store, "copies", {"web-0": copies})
