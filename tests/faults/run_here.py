"""Runs a recipe in this process alone, as the command line does:

python -m tests.faults.run_here RECIPE STORE
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import yaml

from curation.engine.parallel import InProcess
from curation.errors import CurationError
from curation.flow import plan, run_fingerprint
from curation.recipe import parse_recipe
from curation.runner.step import planned_steps, run_step
from curation.store.run_log import recorded_run
from curation.store.store import Store


def run(recipe_path: str, address: str) -> None:
    """Run all stages of a recipe."""
    recipe = parse_recipe(yaml.safe_load(Path(recipe_path).read_text()))
    steps, store = plan(recipe), Store(address)
    with recorded_run(store, recipe.name, run_fingerprint(recipe), planned_steps(steps)) as record:
        for step in steps:
            run_step(step, store, InProcess(), record)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    try:
        run(*sys.argv[1:])
    except CurationError as error:
        raise SystemExit(f"error: {error}") from error
