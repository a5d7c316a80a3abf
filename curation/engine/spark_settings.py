"""What a shell and a machine bring into Spark that a local run cannot use.

A run on this machine takes Spark and Python from its environment and settings from its cluster file.
Variables of another Spark in the shell would send it elsewhere, or stop it with pages of JVM trace.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterable, MutableMapping
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from curation.errors import CurationError, Detail, RecipeError, StartError, text_of

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

PREFIXES = ("SPARK_", "PYSPARK_")
"""How the names of Spark's variables begin."""
KEPT = (
    "SPARK_LOCAL_DIRS",
    "SPARK_LOCAL_IP",
    "SPARK_DRIVER_MEMORY",
    "SPARK_USER",
    "PYSPARK_SUBMIT_ARGS",
)
"""Variables that a local run can use, if their values hold here."""
JAVA_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
OTHER_VARIABLES = (*JAVA_OPTIONS, "HADOOP_CONF_DIR", "HADOOP_HOME", "YARN_CONF_DIR")
PLACING = ("spark.master", "spark.submit.deployMode", "spark.jars", "spark.pyspark", "spark.remote")
"""How the names of properties begin that say where Spark runs, or what it loads."""
LOOPBACK = "127.0.0.1"
_OF_MAIN = 'Exception in thread "main" '
_OPTION = "(Invalid|Unrecognized|Improperly specified|Incompatible|Conflicting) "
_REFUSED = re.compile(
    rf"\S*(IllegalArgument|NumberFormat|ClassNotFound)Exception\b|{_OF_MAIN}|{_OPTION}"
    r"|.*Could not parse Master URL|.* has to be >= "
)
"""An error of Java whose cause is a setting. The main thread of spark-submit only reads settings."""
_WRITTEN = re.compile(
    rf"^({_OF_MAIN}|{_OPTION}|Could not reserve ).*|(?<= ERROR DiskBlockManager: ).*"
)
"""What Java writes before it ends without an answer."""

logger = logging.getLogger(__name__)


def keep_local_settings(environment: MutableMapping[str, str]) -> None:
    """Remove Spark's variables that a local run cannot use, with a warning that names them.

    Spark gets a local address, because the name of the machine may not resolve.

    Args:
        environment: of this process; is changed.
    """
    if "PYSPARK_GATEWAY_PORT" in environment:
        # spark-submit has started Spark, and its variables are meant for this run.
        return
    before = dict(environment)
    for name, value in before.items():
        if name.startswith(PREFIXES):
            kept = _usable(name, value)
            if kept is None:
                del environment[name]
            else:
                environment[name] = kept
    ignored = sorted(name for name, value in before.items() if environment.get(name) != value)
    if ignored:
        logger.warning(
            "Not used, because the cluster is local: %s. The settings of a run stand under `conf` in "
            "a cluster file, for --cluster.",
            ", ".join(ignored),
        )
    environment.setdefault("SPARK_LOCAL_IP", LOOPBACK)


def _usable(name: str, value: str) -> str | None:
    """Return the part of a variable's value that a local run can use; None for nothing."""
    if name == "PYSPARK_PYTHON":
        return value if value == sys.executable else None
    if name not in KEPT:
        return None
    if name == "SPARK_LOCAL_IP":
        return value if _is_of_this_machine(value) else None
    if name == "SPARK_LOCAL_DIRS":
        return value if all(_is_writable(folder) for folder in value.split(",")) else None
    if name == "PYSPARK_SUBMIT_ARGS":
        return _properties(value)
    return value


def _properties(arguments: str) -> str | None:
    """Return the properties in PYSPARK_SUBMIT_ARGS that do not say where Spark runs."""
    try:
        words = shlex.split(arguments)
    except ValueError:
        return None
    pairs = [
        pair
        for option, pair in pairwise(words)
        if option in ("--conf", "-c") and not pair.startswith(PLACING)
    ]
    kept = [word for pair in pairs for word in ("--conf", pair)]
    # What is complete is left as it is, so that nobody is warned.
    if [*kept, "pyspark-shell"] == words:
        return arguments
    return shlex.join([*kept, "pyspark-shell"]) if kept else None


def _is_of_this_machine(address: str) -> bool:
    try:
        kind, _, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True


def _is_writable(folder: str) -> bool:
    path = Path(folder)
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def check_pyspark(imported: str, file: str) -> None:
    """Check that the PySpark that was imported is the installed one.

    Args:
        imported: its version.
        file: its file.

    Raises:
        RecipeError: another one comes first on the path of Python.
    """
    installed = version("pyspark")
    if imported != installed:
        raise RecipeError(
            f"PySpark {installed} is installed, but Python imports {imported} from "
            f"{Path(file).parent}",
            fix="Take that folder out of PYTHONPATH: `unset PYTHONPATH`",
        )


def start_error(
    error: Exception, variables: Iterable[str], written: Iterable[str] = ()
) -> CurationError:
    """Return why Spark does not start, and what may stand in its way.

    Only settings that Spark refuses are an error that running again repeats: Java may have been ended,
    and a master may be starting.

    Args:
        error: what starting it raised.
        variables: names of those of this process that others have set.
        written: lines that Java wrote meanwhile.
    """
    lines = [line.strip(": \t") for line in text_of(error).splitlines() if line.strip()]
    # Of a Java error the exception itself says more than the line about the call.
    of_java = [line for line in lines if line.startswith(("java.", "org."))]
    of_java += [match[0] for match in map(_WRITTEN.search, written) if match]
    reason = of_java[0] if of_java else None
    shown = reason or (lines or [type(error).__name__])[0]
    message = f"Spark does not start: {shown.removeprefix(_OF_MAIN)}"
    is_refused = reason is not None and _REFUSED.match(reason) is not None
    names = sorted(n for n in variables if n.startswith(PREFIXES) or n in OTHER_VARIABLES)
    unset = f"Unset the variables that another Spark left behind ({', '.join(names)})"
    settings = "Settings of a run stand under `conf` in a cluster file, for --cluster"
    fix = f"{unset}. {settings}" if names else settings
    if is_refused:
        return RecipeError(Detail(message, fix=fix))
    return StartError(Detail(message, fix=f"Run again: what is finished is kept. {fix}"))
