"""Clusters: where a run runs, as the files of `conf/clusters/` say. Nothing here starts Spark."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from curation.engine.explain import explain
from curation.engine.params_base import StrictModel
from curation.engine.resources import resource_dir
from curation.engine.spark_settings import LOOPBACK
from curation.engine.yaml_text import load_yaml
from curation.errors import Detail, InvalidValueError, RecipeError, unknown
from curation.secrets import note_secrets, note_settings, note_spec

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

SECRET, SECRET_VARIABLE = "spark.authenticate.secret", "CURATION_SPARK_SECRET"
"""The setting of the secret of a standalone cluster, and the variable that a run takes it from."""
_LOCAL = re.compile(r"local(?:\[(\*|\d+)\])?")
_OTHER_PLACES = {
    "spark.master": "Write it as `master`, beside `conf`",
    "spark.submit.deployMode": "Give --deploy-mode to spark-submit",
}
"""Settings that have no effect here, with where they have one."""
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

    @field_validator("conf", mode="before")
    @classmethod
    def _check_conf(cls, conf: Any) -> Any:
        details = [_problem(str(n), v) for n, v in conf.items()] if isinstance(conf, dict) else []
        if any(details):
            raise InvalidValueError(*filter(None, details))
        return conf


def _problem(name: str, value: Any) -> Detail | None:
    """Return what is wrong with a setting of Spark, which ignores what it does not know."""
    if name in _OTHER_PLACES:
        return Detail("it has no effect here", name, value, fix=_OTHER_PLACES[name])
    if re.fullmatch(r"spark\.\S+", name) is None:
        message = "Spark ignores it: its settings begin with `spark.` and have no blanks"
        return Detail(message, name, fix="Write the whole name, such as spark.driver.memory")
    if not isinstance(value, str | int | float):
        fix = "Write a text, a number, true or false"
        return Detail(f"the setting has no such value as {value!r}", name, value, fix=fix)
    return None


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
                "Clusters in operating.md (in `curation where docs`). On a closed network, a cluster "
                "file of yours can set spark.authenticate to false"
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


def as_properties(settings: Mapping[str, str]) -> str:
    """Return settings of Spark as a file of properties, which Java reads."""
    escapes = str.maketrans({c: f"\\{c}" for c in "\\ :=#!"} | {"\n": "\\n", "\r": "\\r"})
    lines = (
        f"{name.translate(escapes)}={value.translate(escapes)}\n"
        for name, value in settings.items()
    )
    return "".join(lines)


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
