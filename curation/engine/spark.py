"""The Spark context of a run: clusters, Java, the Python of the workers, and GPUs."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import Field, ValidationError

from curation.engine.executors import announced_start, check_master
from curation.engine.explain import explain
from curation.engine.java import ensure_java
from curation.engine.params_base import StrictModel
from curation.engine.resources import resource_dir
from curation.engine.spark_settings import (
    LOOPBACK,
    check_pyspark,
    keep_local_settings,
    start_problem,
)
from curation.engine.yaml_text import load_yaml
from curation.errors import Detail, RecipeError, unknown
from curation.secrets import NAMES, is_secret, note_secrets, note_settings, note_spec
from curation.streams import has_log, held_lines

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.resource import ResourceProfile

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


logger = logging.getLogger(__name__)

SECRET, SECRET_VARIABLE = "spark.authenticate.secret", "CURATION_SPARK_SECRET"
"""The setting of the secret of a standalone cluster, and the variable that a run takes it from."""
_LOCAL = re.compile(r"local(?:\[(\*|\d+)\])?")
ATTEMPTS = 4
"""Attempts of a task on this machine; as many as Spark makes on a cluster."""


class Cluster(StrictModel):
    """Where a run runs: the content of a file of `conf/clusters/`."""

    master: str | None = None
    """Spark master URL, as `local[*]`; null takes the one that spark-submit sets."""
    gpus: bool = False
    """Whether executors request GPUs for the stages that use one."""
    secret_file: str | None = None
    """File with the secret of a standalone cluster, which only its owner can read; `make cluster`
    writes one. Without it, the secret is in the variable `CURATION_SPARK_SECRET`."""
    seconds_without_spark: float = Field(default=5.0, ge=0)
    """Seconds of work that a run on this machine does in its own process before it starts Spark, which
    takes about as long; 0 starts it with the first work. Other clusters do not use it."""
    conf: dict[str, str | int | bool | float] = {}
    """Spark configuration properties by name."""


def load_cluster(name: str) -> Cluster:
    """Read a cluster by the name of its file in `conf/clusters/`, or by the path of a YAML file.

    Raises:
        RecipeError: there is no such file, or its content is not valid.
    """
    folder = resource_dir("conf") / "clusters"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        valid = sorted(p.stem for p in folder.glob("*.yaml"))
        fix = "Name one of these, or write the path of a YAML file"
        raise RecipeError(unknown("cluster", name, valid, "--cluster", fix))
    try:
        text = path.read_text(encoding="utf-8-sig")
        # Errors of YAML quote the text.
        note_secrets(text)
        lines = (line.partition(":") for line in text.splitlines())
        note_settings({name.strip(): value.strip() for name, _, value in lines})
        spec = load_yaml(text) or {}
        note_spec(spec)
        return Cluster.model_validate(spec)
    except ValidationError as error:
        raise RecipeError(*explain(error, Cluster), within=str(path)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        message, fix = f"it cannot be read: {error}", "Write a mapping in YAML, in UTF-8"
        raise RecipeError(Detail(message, str(path), fix=fix)) from error


def with_secret(
    settings: dict[str, str], master: str | None, secret_file: str | None = None
) -> dict[str, str]:
    """Return settings with the secret of a cluster that Spark makes none for: a standalone one.

    Raises:
        RecipeError: it needs one, and neither the file nor the environment has any.
    """
    needs = settings.get("spark.authenticate") == "true" and (master or "").startswith("spark://")
    if not needs or SECRET in settings:
        return settings
    secret = _read_secret(secret_file) if secret_file else os.environ.get(SECRET_VARIABLE)
    if not secret:
        raise RecipeError(
            f"The cluster at {master} wants a secret, which its daemons and its runs share",
            fix=(
                f"Set {SECRET_VARIABLE} to it, and {SECRET} in the properties of the daemons. See "
                "Clusters in docs/operating.md. On a closed network, a cluster file of yours can "
                "set spark.authenticate to false"
            ),
        )
    note_settings({SECRET: secret})
    return settings | {SECRET: secret}


def with_ui(cluster: Cluster) -> Cluster:
    """Return a local cluster whose driver serves Spark's web page on loopback.

    SPARK_LOCAL_IP is set for this process: the page listens there, whatever other settings say.

    Raises:
        RecipeError: the cluster is of other machines.
    """
    if not (cluster.master or "").startswith("local"):
        raise RecipeError(
            Detail(
                f"the page is for runs on this machine, and the master is {cluster.master!r}",
                "--spark-ui",
                fix="Set spark.ui.enabled in the cluster file, with a filter: the page has no password",
            )
        )
    os.environ["SPARK_LOCAL_IP"] = LOOPBACK
    loopback = {"spark.driver.host": LOOPBACK, "spark.driver.bindAddress": LOOPBACK}
    # Port 0 is any free one.
    page = {"spark.ui.enabled": True, "spark.ui.port": 0}
    return cluster.model_copy(update={"conf": {**cluster.conf, **loopback, **page}})


def submitted_settings() -> dict[str, str]:
    """Return the settings that spark-submit passed on to this process; none without it."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def _show_ui(context: SparkContext) -> None:
    """Say where Spark serves its web page, if it does."""
    address = context.uiWebUrl
    if address:
        logger.warning(
            "Spark's web page, which has no password: %s (as long as the run goes on)", address
        )


def _read_secret(path: str) -> str:
    try:
        open_to_others = Path(path).stat().st_mode & 0o077
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        message = f"{path!r} cannot be read ({error})"
        fix = "Name a file that can; `make cluster` writes one while its cluster runs"
        raise RecipeError(Detail(message, "secret_file", path, fix=fix)) from error
    if open_to_others:
        message = f"others than its owner can read {path!r}"
        raise RecipeError(Detail(message, "secret_file", path, fix=f"Run: chmod 600 {path}"))
    return secret


def spark_conf(cluster: Cluster, gpus: int = 0) -> dict[str, str]:
    """Return the Spark configuration of a run.

    Args:
        cluster: where the run runs.
        gpus: GPUs of an executor, if some tasks need one. `gpu_profile` says which tasks get it. On a
            cluster without GPUs they run on CPUs.
    """
    conf = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in cluster.conf.items()}
    if gpus and cluster.gpus:
        conf.setdefault("spark.executor.resource.gpu.amount", str(gpus))
    return conf


def open_context(name: str, cluster: Cluster, gpus: int = 0) -> SparkContext:
    """Return the Spark context of a run: the one that is active, or a new one.

    No stage uses SQL. A session would load its classes, which takes as long as a third of the start.

    Args:
        name: name of the run, shown by Spark.
        cluster: where the run runs.
        gpus: GPUs of an executor, if some tasks need one.

    Raises:
        RecipeError: there is no Java that Spark runs on, or Spark does not start.
    """
    import pyspark
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    check_pyspark(pyspark.__version__, pyspark.__file__)
    check_master(cluster.master or "")
    if (cluster.master or "").startswith("local") and pyspark.SparkContext._gateway is None:
        keep_local_settings(os.environ)
    ensure_java()
    # Otherwise workers would use the first python3 on their PATH.
    workers_python = cluster.conf.get("spark.pyspark.python", sys.executable)
    os.environ.setdefault("PYSPARK_PYTHON", str(workers_python))
    # As a URI, because a path may have spaces, at which Spark would divide the options.
    logging = (resource_dir("conf") / "log4j2.properties").absolute().as_uri()
    settings = {
        "spark.ui.showConsoleProgress": "false",
        # Spark's own pattern knows no key of an account, which its web page and its logs would show.
        "spark.redaction.regex": NAMES,
        "spark.driver.extraJavaOptions": (
            f"-Dlog4j2.configurationFile={logging}{_java_levels()}{_java_compiler(cluster.master)}"
        ),
        **with_secret(spark_conf(cluster, gpus), cluster.master, cluster.secret_file),
    }
    try:
        # Java warns at its start of what no user can mend.
        with held_lines(lambda line: logger.info("Spark: %s", line)):
            _start_gateway(settings)
            with announced_start(cluster.master or ""):
                conf = pyspark.SparkConf().setAll(list(settings.items()))
                conf.setAppName(f"curation {name}")
                if cluster.master:
                    conf.setMaster(with_retries(cluster))
                context = pyspark.SparkContext.getOrCreate(conf)
    except (PySparkException, Py4JError, OSError, RuntimeError) as error:
        raise RecipeError(start_problem(error, os.environ)) from error
    _show_ui(context)
    return context


def _java_levels() -> str:
    """Return options by which Java says to the log file what it does not say to people."""
    return " -Dcuration.level=warn -Dcuration.tasks.level=warn" if has_log() else ""


def _java_compiler(master: str | None) -> str:
    """Return the option by which Java on this machine compiles only once, and quickly.

    Its second compiler takes as long as the rest of a start, and what runs here is Python: a shuffle of
    two gigabytes took less processor time without it, too.
    """
    return " -XX:TieredStopAtLevel=1" if is_local(master) else ""


def _start_gateway(settings: dict[str, str]) -> None:
    """Start the JVM without secret settings, which it would get on its command line.

    A context that is opened afterwards gives it all settings through a socket.
    """
    import pyspark

    public = {name: value for name, value in settings.items() if not is_secret(name)}
    if public != settings and pyspark.SparkContext._gateway is None:
        conf = pyspark.SparkConf(loadDefaults=False).setAll(list(public.items()))
        pyspark.SparkContext._ensure_initialized(conf=conf)


def with_retries(cluster: Cluster) -> str:
    """Return the master of a cluster; a local one with the number of attempts of a task.

    Otherwise Spark makes one attempt there, whatever `spark.task.maxFailures` says, and a task whose
    process the system ended, because memory was short for a moment, would end the run.
    """
    master = cluster.master or ""
    threads = _LOCAL.fullmatch(master)
    if threads is None:
        return master
    return f"local[{threads[1] or 1},{cluster.conf.get('spark.task.maxFailures', ATTEMPTS)}]"


def local_slots(cluster: Cluster) -> int | None:
    """Return the number of tasks that a local cluster runs at once; None if its master does not say."""
    threads = _LOCAL.fullmatch(cluster.master or "")
    if threads is None:
        return None
    return os.cpu_count() if threads[1] == "*" else int(threads[1] or 1)


def is_local(master: str | None) -> bool:
    """Whether tasks run in this process and its children."""
    return re.match(r"local(\[|$)", master or "") is not None


def starts_spark_here(cluster: Cluster) -> bool:
    """Whether a run will start Spark on this machine, and may do without it.

    It may not where spark-submit has started Spark, or where somebody wants to watch it.
    """
    watched = cluster.conf.get("spark.ui.enabled") is True
    return is_local(cluster.master) and "PYSPARK_GATEWAY_PORT" not in os.environ and not watched


def gpu_profile(context: SparkContext) -> ResourceProfile | None:
    """Return the resources that a task on a GPU requests: one GPU, and its share of the cores.

    Returns:
        None if executors have no GPU, or if `spark.task.resource.gpu.amount` is set: every task then
        gets the amount that was set.
    """
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    cores = cores_of_gpu(context)
    if cores is None:
        return None
    wanted = TaskResourceRequests().cpus(cores).resource("gpu", 1)
    profile: ResourceProfile = ResourceProfileBuilder().require(wanted).build
    return profile


def cores_of_gpu(context: SparkContext) -> int | None:
    """Return how many cores a task on a GPU gets; None if it requests no GPU (see `gpu_profile`)."""
    conf = context.getConf()
    gpus = int(conf.get("spark.executor.resource.gpu.amount", "0") or 0)
    if not gpus or conf.get("spark.task.resource.gpu.amount", None):
        return None
    return max(1, int(conf.get("spark.executor.cores", "1") or 1) // gpus)
