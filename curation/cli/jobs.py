"""The entry point of the jobs in `jobs/`, for spark-submit."""

from __future__ import annotations

import argparse
import logging
import sys

from curation.engine.spark import Cluster, load_cluster
from curation.errors import CurationError, RecipeError
from curation.flow import plan
from curation.launch import run_steps, select_steps
from curation.recipe import load_recipe
from curation.store.step_log import Waiting
from curation.store.store import DATASET, Store
from curation.streams import clean_output
from curation.terminal import prepare_streams


def main(stage: str) -> None:
    """Run one stage of a recipe; after the last stage, write the report too."""
    with clean_output():
        _main(stage)


def _main(stage: str) -> None:
    parser = argparse.ArgumentParser(description=f"Run the stage {stage} of a recipe.")
    parser.add_argument("--recipe", required=True, help="Path of the recipe, a YAML file.")
    parser.add_argument(
        "--store", required=True, help="Folder or URI of the store, which holds the tables of runs."
    )
    parser.add_argument(
        "--cluster",
        default=None,
        help="Settings to add to those of spark-submit: name of a file in conf/clusters, or a path.",
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="Stop with an error if another run works on the same stage, instead of waiting for it.",
    )
    arguments = parser.parse_args()
    prepare_streams(logging.INFO, "%(asctime)s %(levelname)s %(message)s")
    try:
        _run(stage, arguments)
    except CurationError as error:
        logging.getLogger(__name__).error("%s", error)
        sys.exit(2 if isinstance(error, RecipeError) else 1)


def _run(stage: str, arguments: argparse.Namespace) -> None:
    # spark-submit decides the master and the resources; a cluster file only adds to them.
    cluster = load_cluster(arguments.cluster) if arguments.cluster else Cluster()
    recipe, store = load_recipe(arguments.recipe), Store(arguments.store)
    steps = select_steps(plan(recipe), only=stage)
    run_steps(steps, recipe, store, cluster, waiting=Waiting(wait=not arguments.no_wait))
    if any(step.tables == (DATASET,) for step in steps):
        from curation.inspect.report.build import write_report

        write_report(recipe, store)
