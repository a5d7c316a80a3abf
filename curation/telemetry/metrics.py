"""The metrics of a run as a text file, for the textfile collector of node_exporter.

All are gauges: such a file is valid OpenMetrics, and valid in the older text format of Prometheus,
which node_exporter reads and which has no other type that both know by the same name.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from curation.errors import Detail, RecipeError
from curation.flow import Step
from curation.runner.observer import RunObserver
from curation.runner.step import StepResult
from curation.store.run_record import RunRecord
from curation.store.store import DATASET
from curation.telemetry.event_sink import FULL_DISK

logger = logging.getLogger(__name__)

STATES = ("running", "finished", "failed")


class Sample(NamedTuple):
    """One value of a metric.

    Attributes:
        labels: its labels, without those that all metrics have.
        value: the value.
    """

    labels: Mapping[str, str]
    value: float


class Metric(NamedTuple):
    """A gauge.

    Attributes:
        name: its name, without the `curation_` at the beginning.
        help: what it counts.
        samples: its values.
    """

    name: str
    help: str
    samples: Sequence[Sample]


class MetricsFile(RunObserver):
    """Writes the metrics of a run to a file: at its begin, after each stage and at its end.

    Args:
        path: of the file, whose name should end with `.prom`.

    Raises:
        RecipeError: the folder cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._labels: dict[str, str] = {}
        self._run = ""
        self._started, self._began = time.time(), time.monotonic()
        self._planned: Sequence[Step] = ()
        self._results: list[StepResult] = []
        try:
            _replace(self._path, "# EOF\n")
        except OSError as error:
            if error.errno in FULL_DISK:
                self._warn(error)
                return
            message = f"{path!r} cannot be written: {error.strerror}"
            fix = "Name a file in a folder that exists and that you may write"
            raise RecipeError(Detail(message, "--metrics", path, fix=fix)) from error

    def run_started(self, run: RunRecord, steps: Sequence[Step]) -> None:
        """See `RunObserver.run_started`."""
        # Of two files, node_exporter takes no series twice, and tasks of Airflow share a recipe.
        file = os.fsencode(self._path.stem).decode("utf-8", "replace")
        self._labels = {"recipe": run.recipe, "file": file}
        self._run, self._planned = run.run, steps
        self._started, self._began, self._results = time.time(), time.monotonic(), []
        self._write("running")

    def step_ended(self, result: StepResult) -> None:
        """See `RunObserver.step_ended`."""
        self._results.append(result)
        self._write("running")

    def run_ended(self, error: BaseException | None) -> None:
        """See `RunObserver.run_ended`."""
        self._write("finished" if error is None else "failed")

    def _write(self, state: str) -> None:
        metrics = [*self._of_run(state), *_of_stages(self._results)]
        try:
            _replace(self._path, exposition(metrics, self._labels))
        except OSError as error:
            # Metrics are not worth stopping the work for.
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        logger.warning("The metrics %s were not written: %s", self._path, error)

    def _of_run(self, state: str) -> list[Metric]:
        # A clock that is set right meanwhile does not change how long the run takes.
        seconds = time.monotonic() - self._began
        states = [Sample({"state": each}, int(each == state)) for each in STATES]
        return [
            Metric("run", "The run that these metrics describe.", [Sample({"run": self._run}, 1)]),
            Metric("run_state", "1 for the state of the run, 0 for the others.", states),
            Metric("run_started_timestamp_seconds", "When it began.", [Sample({}, self._started)]),
            Metric(
                "run_updated_timestamp_seconds", "When this was written.", [Sample({}, time.time())]
            ),
            Metric("run_seconds", "Its time so far.", [Sample({}, seconds)]),
            Metric("run_stages_planned", "Its stages.", [Sample({}, len(self._planned))]),
            Metric("run_stages_ended", "Stages that ended.", [Sample({}, len(self._results))]),
        ]


def _of_stages(results: Iterable[StepResult]) -> list[Metric]:
    results = list(results)
    seconds = [Sample({"stage": r.step.name}, r.seconds) for r in results]
    tables = [
        Sample({"stage": r.step.name, "table": m.table}, m.rows)
        for r in results
        for m in r.manifests
    ]
    outcomes = [
        Sample({"stage": r.step.name, "table": m.table, "role": role, "outcome": outcome}, rows)
        for r in results
        for m in r.manifests
        for role, by_outcome in m.counts.items()
        for outcome, rows in by_outcome.items()
    ]
    fragments = [
        Sample({"stage": r.step.name, "how": how}, count)
        for r in results
        for how, count in (("computed", r.computed), ("reused", r.reused))
    ]
    dataset = [
        Sample({"version": m.version}, m.rows)
        for r in results
        for m in r.manifests
        if m.table == DATASET
    ]
    return [
        Metric("stage_seconds", "Wall time of a stage.", seconds),
        Metric("table_rows", "Rows of a table that a stage committed.", tables),
        Metric("stage_outcome_rows", "Rows by ok or the reason of a failure.", outcomes),
        Metric("stage_fragments", "Fragments that a stage computed or reused.", fragments),
        Metric("dataset_rows", "Images of the dataset.", dataset),
    ]


def exposition(metrics: Iterable[Metric], labels: Mapping[str, str]) -> str:
    """Return metrics as text. Metrics without values are left out.

    Args:
        metrics: with different names.
        labels: of all samples.
    """
    lines: list[str] = []
    for metric in metrics:
        if metric.samples:
            name = f"curation_{metric.name}"
            lines += [f"# TYPE {name} gauge", f"# HELP {name} {_escaped(metric.help)}"]
            lines += [_sample(name, {**labels, **s.labels}, s.value) for s in metric.samples]
    return "\n".join([*lines, "# EOF", ""])


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{shown}}} {float(value)!r}" if shown else f"{name} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _replace(path: Path, content: str) -> None:
    """Write a file at once: a reader sees the old one or the new one, and no other name ends alike."""
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
    try:
        new.write_text(content, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
