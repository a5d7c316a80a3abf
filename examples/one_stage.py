"""Run one stage of a recipe from Python, with another threshold.

    python examples/one_stage.py                   # on the store that small_run.py made

A stage is found in the plan by its name. The store notes what each version was made from, so a stage
that has nothing new to do returns at once, and a threshold that is moved back finds the old table.
"""

import argparse
from pathlib import Path

from small_run import DEFAULT_STORE, recipe_over

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step
from curation.store.store import Store


def run_select(folder: Path, min_side: int) -> StepResult:
    """Run `select` alone: an image is eligible if its shorter side has at least `min_side` pixels."""
    recipe = recipe_over(folder / "sources")
    recipe["select"] = {"min_side": {"at_least": min_side}}
    steps = {step.name: step for step in plan(parse_recipe(recipe))}
    return run_step(steps["select"], Store(folder), InProcess())


def main() -> None:
    """Run `select` with several thresholds, and print how many images each leaves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    folder = parser.parse_args().store
    for min_side in (64, 120, 64):
        outcome = run_select(folder, min_side)
        status = open_table(Store(folder), "eligible").read(["status"]).to_pandas()["status"]
        effort = "up to date" if outcome.up_to_date else f"computed in {outcome.seconds:.1f} s"
        print(f"min_side {min_side}: {(status == 'eligible').sum()} eligible, {effort}")


if __name__ == "__main__":
    main()
