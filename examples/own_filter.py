"""Use a filter of one's own, from a plug-in, in a recipe.

    python examples/own_filter.py                  # on the store that small_run.py made

The filter is in `redness.py`. The recipe is that of small_run.py with three more keys. `screen` and the
stages that read its scores run again; the images and their embeddings are those of the run before.
"""

import argparse
from pathlib import Path

from small_run import DEFAULT_STORE, recipe_over

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store

PLUGIN = Path(__file__).resolve().parent / "redness.py"


def main() -> None:
    """Run until `select` with the filter, and print what it lets through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    folder = parser.parse_args().store
    recipe = parse_recipe(
        recipe_over(folder / "sources")
        | {
            "plugins": [str(PLUGIN)],
            "screen": {"filters": ["min_side", "redness"]},
            "select": {"min_side": {"at_least": 64}, "redness": {"at_least": 0.33}},
        }
    )
    store = Store(folder)
    for step in plan(recipe, until="select"):
        outcome = run_step(step, store, InProcess())
        print(f"{step.name:<12}{'up to date' if outcome.up_to_date else 'computed'}")
    scores = open_table(store, "scores").read(["redness"]).to_pandas()["redness"]
    print(f"redness: from {scores.min():.2f} to {scores.max():.2f}, median {scores.median():.2f}")
    eligible = open_table(store, "eligible").read(["role", "status", "reason"]).to_pandas()
    pool = eligible[eligible["role"] == "pool"]
    print(pool.fillna({"reason": "eligible"})["reason"].value_counts().to_string())


if __name__ == "__main__":
    main()
