"""The operator that runs some stages of a recipe as one spark-submit."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from curation.airflow.params import beside, request_of
from curation.engine.cluster import (
    Cluster,
    as_properties,
    load_cluster,
    spark_conf,
    with_retries,
    with_secret,
)
from curation.engine.resources import resource_dir
from curation.errors import CurationError, Detail, ExpectationError, RecipeError
from curation.flow import Step, plan, select_steps
from curation.recipe import load_recipe
from curation.secrets import is_secret
from curation.stages.assemble.params import STAGE as ASSEMBLE

CLUSTER_CONNECTION = "curation_cluster"
"""The Spark connection of clusters whose file names a master."""
YARN_CONNECTION = (
    '{"conn_type": "spark", "host": "yarn", "extra": {"deploy-mode": "cluster", '
    '"yarn_resourcemanager_webapp_address": "http://rm:8088"}}'
)
"""An example of a connection whose driver runs in the cluster."""
_FINAL = {RecipeError.exit_status, ExpectationError.exit_status}
"""Exit statuses of failures that another attempt would repeat."""
_EXIT_STATUS = re.compile(r"(?:Error|Kubernetes spark exit) code is: (\d+)")
"""Of spark-submit, and of a driver that runs in Kubernetes."""


@dataclass(frozen=True)
class Project:
    """Where the project is on the workers of Airflow.

    Attributes:
        home: folder with `jobs/`.
        environment: the project's environment, with Spark.
    """

    home: Path
    environment: Path

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Project:
        """Return the one that CURATION_HOME and CURATION_VENV name; by default, where `jobs/` is."""
        home = Path(variables.get("CURATION_HOME") or resource_dir("jobs").parent).absolute()
        return cls(home, Path(variables.get("CURATION_VENV") or home / ".venv").absolute())

    def program(self, name: str) -> str:
        """Return the path of a program of the environment."""
        return str(self.environment / "bin" / name)

    def check(self) -> None:
        """Check that it is there.

        Raises:
            AirflowFailException: it is not; with the variable to correct.
        """
        places = {
            "CURATION_HOME": (self.home / "jobs" / "run.py", "the folder with `jobs/`"),
            "CURATION_VENV": (Path(self.program("spark-submit")), "the environment with Spark"),
        }
        for variable, (path, meaning) in places.items():
            if not path.is_file():
                raise AirflowFailException(
                    f"There is no {path}: set {variable} in the environment of Airflow to {meaning}."
                )


class CurationOperator(SparkSubmitOperator):
    """Runs some stages of a recipe as one spark-submit.

    Args:
        stages: the stages, neighbours in the plan.
        job_options: further options of the job.
        options: of `SparkSubmitOperator`; without `conn_id`, a cluster whose file has no master uses
            `spark_default`.
    """

    def __init__(
        self, *, stages: Sequence[str], job_options: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__(**options)
        self.stages, self.job_options = list(stages), list(job_options)

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the stages that the run asks for; return their rows, reasons and tables.

        Raises:
            AirflowSkipException: the run leaves all stages of the task out.
            AirflowFailException: another attempt would fail too.
        """
        request = request_of(context)
        try:
            with beside(request["recipe"]):
                steps = plan(load_recipe(request["recipe"]))
                cluster = load_cluster(request["cluster"])
                wanted = self._wanted(steps, request)
                gpu = any(step.stage.gpu for step in steps if step.name in wanted)
                of_cluster = spark_conf(cluster, gpu)
                conf = with_secret(of_cluster, cluster.master, cluster.secret_file)
        except CurationError as error:
            raise AirflowFailException(str(error)) from error
        if not wanted:
            raise AirflowSkipException(
                f"The run leaves out {', '.join(self.stages)}: from {request['from']}, until "
                f"{request['until']}."
            )
        with self._prepared(conf, cluster, wanted, request) as summary:
            try:
                super().execute(context)
            except AirflowException as error:
                _raise_if_final(error)
                raise
            finally:
                result = self._read(summary)
        if ASSEMBLE.name in wanted:
            self._publish(result, context)
        else:
            # Nobody who waits for a dataset is to be started.
            self.outlets: list[Any] = []
        return result

    def on_kill(self) -> None:
        """End what the task started, also the driver.

        Airflow ends Java alone, and a driver goes on for as long as it needs no Java, maybe for hours.
        """
        submitted = self._hook and self._hook._submit_sp
        below: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            if submitted:
                below = psutil.Process(submitted.pid).children(recursive=True)
        super().on_kill()
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()

    def _get_hook(self) -> Any:
        """Return the hook, with Spark's own defaults beside a file of properties, not in its place."""
        hook = super()._get_hook()
        arguments = hook._build_spark_common_args
        if self.properties_file:
            hook._build_spark_common_args = lambda: [*arguments(), "--load-spark-defaults"]
        return hook

    def _wanted(self, steps: Sequence[Step], request: Mapping[str, Any]) -> list[str]:
        """Return the stages of the task that the run asks for."""
        chosen = select_steps(steps, first=request["from"], until=request["until"])
        if request["retry"] and all(step.stage.retry is None for step in chosen):
            message = "the run leaves out the stage fetch, which alone repeats requests"
            fix = "Let the run include fetch, or leave `retry` out"
            raise RecipeError(Detail(message, "retry", request["retry"], fix=fix))
        if request["retry"] and request["force"]:
            message = "it has no effect beside `force`, which asks for every row again"
            raise RecipeError(
                Detail(message, "retry", request["retry"], fix="Leave one of them out")
            )
        return [step.name for step in chosen if step.name in self.stages]

    @contextlib.contextmanager
    def _prepared(
        self,
        conf: dict[str, str],
        cluster: Cluster,
        wanted: Sequence[str],
        request: Mapping[str, Any],
    ) -> Iterator[Path]:
        """Set what spark-submit is called with; yield the file of the summary that the job writes."""
        project = Project.of(os.environ)
        project.check()
        self.application = str(project.home / "jobs" / "run.py")
        self._spark_binary = project.program("spark-submit")
        self.env_vars = {"PYSPARK_PYTHON": project.program("python")}
        self.name = f"curation {wanted[0]}"
        with tempfile.TemporaryDirectory(prefix="curation-") as folder:
            summary = Path(folder) / "summary.json"
            # Airflow logs the command line, and other users of the machine can read it.
            secret = {name: value for name, value in conf.items() if is_secret(name)}
            if secret:
                properties = Path(folder) / "spark.properties"
                properties.touch(mode=0o600)
                properties.write_text(as_properties(secret), encoding="utf-8")
                self.properties_file = str(properties)
            self.conf = {name: value for name, value in conf.items() if name not in secret}
            in_cluster = self._connect(cluster)
            self.application_args = [
                *("--recipe", request["recipe"], "--store", request["store"]),
                *("--from", wanted[0], "--until", wanted[-1]),
                *(["--retry", request["retry"]] if request["retry"] and "fetch" in wanted else []),
                *(["--force"] if request["force"] else []),
                *(["--summary", str(summary)] if not in_cluster else []),
                *self.job_options,
            ]
            with beside(request["recipe"]):
                yield summary

    def _connect(self, cluster: Cluster) -> bool:
        """Choose the Spark connection; return whether the driver runs in the cluster."""
        if cluster.master is not None:
            extra = {"deploy-mode": "client"}
            connection = {"conn_type": "spark", "host": with_retries(cluster), "extra": extra}
            os.environ[f"AIRFLOW_CONN_{CLUSTER_CONNECTION.upper()}"] = json.dumps(connection)
            self._conn_id = CLUSTER_CONNECTION
            return False
        try:
            known = BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException as error:
            raise AirflowFailException(
                f"The cluster names no master, and there is no Spark connection {self._conn_id!r}. Add "
                f"it, as JSON: {YARN_CONNECTION}"
            ) from error
        if known.extra_dejson.get("deploy-mode") != "cluster":
            return False
        # Airflow then finds the driver again after a worker was lost.
        place = f"{known.conn_type}://{known.host}"
        self._yarn_track_via_rm_api = "yarn" in place
        self._track_driver_via_k8s_api = "k8s" in place
        return True

    def _read(self, summary: Path) -> dict[str, Any]:
        """Return the summary that the job wrote, and log it."""
        if not summary.is_file():
            return {}
        result: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
        for stage in result["stages"]:
            outcomes = ", ".join(f"{rows:,} {name}" for name, rows in stage["outcomes"].items())
            self.log.info(
                "%s: %s rows in %s s%s; %s",
                stage["stage"],
                f"{stage['rows']:,}",
                stage["seconds"],
                f" ({outcomes})" if outcomes else "",
                ", ".join(stage["tables"].values()),
            )
        for name in ("dataset", "report"):
            if name in result:
                self.log.info("%s: %s", name, result[name])
        return result

    def _publish(self, result: Mapping[str, Any], context: Any) -> None:
        """Put what is new of the dataset into the event of its asset."""
        for asset in self.outlets:
            event = {name: result[name] for name in ("report", "shortfalls") if name in result}
            context["outlet_events"][asset].extra = event | dict(result.get("dataset", {}))


def _raise_if_final(error: AirflowException) -> None:
    """Raise an error that is not tried again, if another attempt would fail too."""
    if _FINAL.intersection(map(int, _EXIT_STATUS.findall(str(error)))):
        raise AirflowFailException(str(error)) from error
