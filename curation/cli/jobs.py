"""The entry points of the jobs in `jobs/`, for spark-submit."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from curation.cli import help_texts
from curation.cli.errors import fields_of, interruption, refuse_empty, termination
from curation.cli.output_file import check_folder
from curation.cli.process_end import run_and_end
from curation.cli.run_printer import RunPrinter
from curation.cli.run_report import report_of_run
from curation.cli.signals import Terminated, ending_in_order
from curation.cli.summary import summarise
from curation.cli.telemetry_options import (
    METRICS_HELP,
    OPENLINEAGE_HELP,
    PARENT_HELP,
    TelemetryOptions,
)
from curation.engine.cluster import Cluster, is_local, load_cluster
from curation.engine.spark import submitted_settings
from curation.errors import Detail, RecipeError
from curation.flow import Step, plan, select_steps
from curation.launch import RunOptions, run_steps
from curation.logs import ERROR_FIELD, log_of, prepare_streams
from curation.recipe import load_recipe
from curation.runner.observer import RunObserver
from curation.runner.outcomes import asked_again
from curation.runner.step import StepResult
from curation.store.dataset_files import dataset_folder
from curation.store.run_record import RunRecord
from curation.store.step_log import Waiting
from curation.store.store import DATASET, Store
from curation.streams import clean_output
from curation.telemetry.run_log_file import RunLogFile
from curation.terminal import Terminal

logger = logging.getLogger(__name__)


def main(stage: str | None = None) -> NoReturn:
    """Run one stage of a recipe, or without one those that the command line names; end the process.

    After the last stage, write the report too.
    """
    run_and_end(partial(_with_clean_output, stage))


def _with_clean_output(stage: str | None) -> None:
    with clean_output():
        _main(stage)


def _main(stage: str | None) -> None:
    arguments = _parser(stage).parse_args()
    prepare_streams(logging.INFO, "%(asctime)s %(levelname)s %(message)s", arguments.log_format)
    try:
        refuse_empty(sys.argv[1:])
        with ending_in_order():
            _run(arguments)
    except Terminated as error:
        _end(error, termination(error))
    except (Exception, KeyboardInterrupt) as error:
        fields = fields_of(error) if isinstance(error, Exception) else interruption()
        if fields is None:
            raise
        _end(error, fields)


def _end(error: BaseException, fields: Mapping[str, Any]) -> NoReturn:
    log, text = log_of(error), fields["message"]
    extra = {ERROR_FIELD: {**fields, "log": log}}
    logger.error("%s", f"{text}\nlog: {log}" if log else text, extra=extra)
    sys.exit(fields["exit_status"])


def _parser(stage: str | None) -> argparse.ArgumentParser:
    description = f"Run the stage {stage} of a recipe." if stage else "Run stages of a recipe."
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--recipe", required=True, help=help_texts.RECIPE)
    add("--store", required=True, help=help_texts.STORE)
    add(
        "--cluster",
        help="Settings to add to those of spark-submit: name of a file in conf/clusters, or a path.",
    )
    add("--no-wait", action="store_true", help=help_texts.NO_WAIT)
    add("--retry", action="append", default=[], help=help_texts.RETRY)
    add("--force", action="store_true", help=help_texts.FORCE)
    add("--log-format", choices=("text", "json"), default="text", help=help_texts.LOG_FORMAT)
    add("--metrics", metavar="FILE", help=METRICS_HELP)
    add("--openlineage", metavar="FILE|URL", help=OPENLINEAGE_HELP)
    add("--openlineage-parent", metavar="PARENT", help=PARENT_HELP)
    add("--summary", help="JSON file to write with the rows of each stage; - is the output.")
    if stage:
        parser.set_defaults(only=stage, first=None, until=None)
    else:
        add("--from", dest="first", help=help_texts.FROM)
        add("--until", help=help_texts.UNTIL)
        parser.set_defaults(only=None)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.summary not in (None, "-"):
        check_folder(arguments.summary, "--summary")
    telemetry = TelemetryOptions(
        arguments.metrics, arguments.openlineage, arguments.openlineage_parent
    )
    telemetry.empty_metrics()
    cluster = _cluster(arguments.cluster)
    recipe, store = load_recipe(arguments.recipe), Store(arguments.store)
    steps = select_steps(plan(recipe), arguments.only, arguments.first, arguments.until)
    recompute = asked_again(steps, arguments.force, arguments.retry)
    observers = telemetry.observers(store, submitted_settings() if telemetry.lineage_target else {})
    ended, report = _EndedSteps(), None
    # Lines of the log have the rows of each step.
    console = Terminal(stderr=True, soft_wrap=True)
    master = submitted_settings().get("spark.master", cluster.master)
    printer = RunPrinter(recipe, store, console, master, with_rows=False)
    printer.before(steps)
    try:
        waiting = Waiting(wait=not arguments.no_wait)
        with RunLogFile(store, partial(logger.info, "log: %s")) as log:
            options = RunOptions(waiting, recompute, [log, ended, *observers, printer])
            run_steps(steps, recipe, store, cluster, options)
            _log_dataset(ended.results, store)
            report = report_of_run(ended.results, recipe, store, log.run)
            if report is not None:
                logger.info("report: %s", store.address(report))
    finally:
        # Of a run that failed, too: what ended before.
        if arguments.summary:
            _write(summarise(ended.results, store, report), arguments.summary)


def _cluster(name: str | None) -> Cluster:
    """Return the cluster of a job: spark-submit decides the master, and a cluster file adds settings.

    Raises:
        RecipeError: the file names another master.
    """
    cluster = load_cluster(name) if name else Cluster()
    submitted = submitted_settings().get("spark.master") if cluster.master else None
    if submitted is None:
        return cluster
    if cluster.master != submitted and not (is_local(cluster.master) and is_local(submitted)):
        message = (
            f"spark-submit runs on {submitted}, and the master of the cluster is {cluster.master}"
        )
        fix = (
            f"Call spark-submit with --master {cluster.master}, or name a cluster without a master"
        )
        raise RecipeError(Detail(message, "--cluster", name, fix=fix))
    return cluster.model_copy(update={"master": None})


class _EndedSteps(RunObserver):
    """Notes the steps that have ended; if the run begins again, those of the last attempt.

    Attributes:
        results: their results, in order.
    """

    def __init__(self) -> None:
        self.results: list[StepResult] = []

    def run_started(self, run: RunRecord, steps: Sequence[Step]) -> None:
        """See `RunObserver.run_started`."""
        self.results = []

    def step_ended(self, result: StepResult) -> None:
        """See `RunObserver.step_ended`."""
        self.results.append(result)


def _log_dataset(results: Sequence[StepResult], store: Store) -> None:
    for manifest in (m for result in results for m in result.manifests if m.table == DATASET):
        address = store.address(dataset_folder(manifest.version))
        logger.info("dataset: %s images in %s", f"{manifest.rows:,}", address)


def _write(summary: object, path: str) -> None:
    text = json.dumps(summary, indent=1)
    if path == "-":
        Terminal().print_json(text)
    else:
        Path(path).write_text(text + "\n", encoding="utf-8")
