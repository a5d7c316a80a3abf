"""The Spark context of a run: Java, the Python of the workers, and GPUs."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from curation.engine.cluster import Cluster, is_local, spark_conf, with_retries, with_secret
from curation.engine.executors import announced_start, check_master
from curation.engine.java import ensure_java
from curation.engine.resources import resource_dir
from curation.engine.spark_settings import check_pyspark, keep_local_settings, start_error
from curation.secrets import NAMES, is_secret
from curation.streams import has_log, held_lines

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.resource import ResourceProfile

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

CLEANING_INTERVAL = "1min"
"""How often Spark's Java looks for garbage, and so removes the files of shuffles that are over. With
Spark's half an hour, all shuffles of ten million images, 23 GB, lay on the disk at once."""
UI, KILLS = "spark.ui.enabled", "spark.ui.killEnabled"
OPTIONS = "spark.driver.extraJavaOptions"

logger = logging.getLogger(__name__)


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


def open_context(name: str, cluster: Cluster, gpus: int = 0) -> SparkContext:
    """Return the Spark context of a run: the one that is active, or a new one.

    No stage uses SQL. A session would load its classes, which takes as long as a third of the start.

    Args:
        name: name of the run, shown by Spark.
        cluster: where the run runs.
        gpus: GPUs of an executor, if some tasks need one.

    Raises:
        RecipeError: there is no Java that Spark runs on, or Spark refuses a setting.
        StartError: Spark does not start for another cause.
    """
    import pyspark
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    check_pyspark(pyspark.__version__, pyspark.__file__)
    # Others are set below.
    inherited = set(os.environ)
    check_master(cluster.master or "")
    if (cluster.master or "").startswith("local") and pyspark.SparkContext._gateway is None:
        keep_local_settings(os.environ)
    ensure_java()
    # Otherwise workers would use the first python3 on their PATH.
    workers_python = cluster.conf.get("spark.pyspark.python", sys.executable)
    os.environ.setdefault("PYSPARK_PYTHON", str(workers_python))
    # As a URI, because a path may have spaces, at which Spark would divide the options.
    log4j = (resource_dir("conf") / "log4j2.properties").absolute().as_uri()
    settings = {
        "spark.ui.showConsoleProgress": "false",
        # Spark's own pattern knows no key of an account, which its web page and its logs would show.
        "spark.redaction.regex": NAMES,
        **with_secret(spark_conf(cluster, gpus), cluster.master, cluster.secret_file),
    }
    options = f"-Dlog4j2.configurationFile={log4j}{_java_levels()}{_java_compiler(cluster.master)}"
    # Of an option that is given twice, Java takes the last.
    settings[OPTIONS] = f"{options} {settings.get(OPTIONS, '')}".rstrip()
    if UI not in submitted_settings():
        # The page has no password, and listens on all addresses.
        settings.setdefault(UI, "false")
    written: list[str] = []
    try:
        # Java warns at its start of what no user can mend.
        with held_lines(lambda line: logger.info("Spark: %s", line)) as written:
            _start_gateway(settings)
            with announced_start(cluster.master or ""):
                conf = pyspark.SparkConf().setAll(list(settings.items()))
                conf.setAppName(f"curation {name}")
                conf.setIfMissing("spark.cleaner.periodicGC.interval", CLEANING_INTERVAL)
                # Whoever reaches the page could end the jobs of a run, also from a page in a browser.
                conf.setIfMissing(KILLS, "false")
                if cluster.master:
                    conf.setMaster(with_retries(cluster))
                context = pyspark.SparkContext.getOrCreate(conf)
    except (PySparkException, Py4JError, OSError, RuntimeError) as error:
        raise start_error(error, inherited & set(os.environ), written) from error
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
