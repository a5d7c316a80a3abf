"""The named parts of the nightly checks: what `scripts/nightly.py` runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "data" / "nightly"
NO_TESTS = 5
"""The exit status of pytest where no test was selected."""

HISTORIES = "tests/reuse"
SLOW_TESTS = {
    "slow-damage": ("tests/damage",),
    "slow-gc": ("tests/gc",),
    "slow-inputs": ("tests/fetch", "tests/ingest", "tests/pictures"),
    "slow-runs": ("tests/airflow", "tests/cli", "tests/e2e", "tests/examples", "tests/web_mini"),
    "slow-stores": ("tests/s3", "tests/store", "tests/takedown"),
}
"""Folders of tests by part; `slow-others` has all folders that stand here in no part."""
PIP_AUDIT = "pip-audit==2.10.1"
VULNERABILITIES = ("api.osv.dev", 443)
"""Host and port of the database of known vulnerabilities."""
LONG_TESTS = ("airflow", "audit", "e2e", "examples", "quickstart", "report", "web_mini")
"""Folders of tests that run whole recipes; other interpreters run the rest."""


class UnavailableError(Exception):
    """Says why a part cannot run on this machine."""


class Command(NamedTuple):
    """A command of a part, the folder in which it runs, and the exit statuses that are a success."""

    arguments: tuple[str, ...]
    folder: Path = ROOT
    allowed: tuple[int, ...] = (0,)
    environment: Mapping[str, str] = {}


@dataclass(frozen=True)
class Part:
    """What is run under a name.

    Attributes:
        about: one line for people.
        commands: returns the commands in their order; raises `UnavailableError`.
    """

    about: str
    commands: Callable[[], list[Command]]


def python(*arguments: str) -> tuple[str, ...]:
    """Return a command of the interpreter that runs this."""
    return (sys.executable, *arguments)


def tiny_benchmarks() -> list[Command]:
    """Return a tiny run of every benchmark."""
    sources = sorted((ROOT / "benchmarks").glob("*.py"))
    # The other modules of the folder are imported by benchmarks.
    programs = [path.stem for path in sources if "__main__" in path.read_text(encoding="utf-8")]
    return [Command(python("-m", f"benchmarks.{name}", "--tiny")) for name in programs]


def slow_tests(*arguments: str) -> Callable[[], list[Command]]:
    """Return what gives the tests that are marked `slow` or `nightly` of what arguments select."""

    def commands() -> list[Command]:
        selected = python("-m", "pytest", "-m", "slow or nightly", "-n", "2", "--durations", "10")
        # The limit of `make test` ends tests that are long by design, where the machine is slow.
        selected += ("--timeout", "3000")
        # Tests of one file share stores that are made once, as in `make test`.
        selected += ("--dist", "loadfile", "--no-loadscope-reorder", *arguments)
        return [Command(selected, allowed=(0, NO_TESTS))]

    return commands


def other_slow_tests() -> Callable[[], list[Command]]:
    """Return what gives the slow tests that are in no other part."""
    elsewhere = [HISTORIES, *(folder for folders in SLOW_TESTS.values() for folder in folders)]
    return slow_tests(*(f"--ignore={folder}" for folder in elsewhere))


def histories() -> list[Command]:
    """Return the runs on stores with random histories, of which `make test` runs the first few."""
    selected = python("-m", "pytest", "-m", "slow or nightly", HISTORIES, "-n", "2")
    # Not by file, as elsewhere: the tests of one file take nearly all the time.
    return [Command((*selected, "--timeout", "3000"))]


def simulation() -> list[Command]:
    """Return the racing runs on a simulated store, of which `make test` runs the first 500."""
    return [Command(python("-m", "tests.simulation", "--schedules", "10000", "--processes", "2"))]


def faults() -> list[Command]:
    """Return the runs that meet a fault, of which `make test` runs 20; some are on a cluster."""
    some = python("-m", "tests.faults", "--cases", "150")
    on_cluster = python("-m", "tests.faults", "--cases", "17", "--workers", "standalone")
    return [Command(some), Command(on_cluster)]


def wheel() -> list[Command]:
    """Return the test of the wheel in a fresh environment."""
    return [Command(python("scripts/check_wheel.py"))]


def vulnerabilities() -> list[Command]:
    """Return the check of the pinned dependencies against the database of known vulnerabilities.

    Raises:
        UnavailableError: the database cannot be reached.
    """
    uvx = shutil.which("uvx", path=str(Path(sys.executable).parent)) or shutil.which("uvx")
    if uvx is None:
        raise UnavailableError("no uvx on PATH or beside the interpreter")
    try:
        with socket.create_connection(VULNERABILITIES, timeout=10):
            pass
    except OSError as error:
        raise UnavailableError(f"{VULNERABILITIES[0]} cannot be reached: {error}") from error
    audit = (uvx, "--from", PIP_AUDIT, "pip-audit", "--strict", "--disable-pip", "--no-deps")
    return [
        Command((*audit, "--vulnerability-service", "osv", "-r", str(ROOT / file)))
        for file in ("constraints.txt", "constraints-airflow.txt")
    ]


def unit_tests_under(version: str) -> Callable[[], list[Command]]:
    """Return what gives the unit tests under another Python, in a clone with its own environment."""

    def commands() -> list[Command]:
        interpreter, clone = find_interpreter(version), FOLDER / f"python-{version}"
        ignored = [f"--ignore=tests/{folder}" for folder in LONG_TESTS]
        tests = (str(clone / ".venv/bin/python"), "-m", "pytest", "-n", "2", *ignored)
        return [
            Command(("git", "init", "--quiet", str(clone))),
            Command(("git", "fetch", "--quiet", str(ROOT), "HEAD"), clone),
            Command(("git", "checkout", "--quiet", "--force", "FETCH_HEAD"), clone),
            Command(python("scripts/setup.py"), clone, environment={"PYTHON": interpreter}),
            Command((*tests, "-m", "not nightly"), clone),
        ]

    return commands


def find_interpreter(version: str) -> str:
    """Return a working Python of a version: of PATH, or of pyenv's folder.

    Raises:
        UnavailableError: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    places = [on_path] if on_path else []
    places += [str(p / "bin" / "python") for p in sorted(pyenv.glob(f"{version}.*"), reverse=True)]
    for place in places:
        asked = subprocess.run(
            [place, "--version"], capture_output=True, text=True, check=False, timeout=60
        )
        if asked.stdout.startswith(f"Python {version}."):
            return place
    raise UnavailableError(f"no Python {version} on PATH or in {pyenv}")


PARTS = {
    "vulnerabilities": Part("known vulnerabilities of the pinned dependencies", vulnerabilities),
    "benchmarks-tiny": Part("a quick run of every benchmark, on small sizes", tiny_benchmarks),
    **{
        name: Part(f"slow tests of {', '.join(f.removeprefix('tests/') for f in folders)}", slow)
        for name, folders in SLOW_TESTS.items()
        for slow in [slow_tests(*folders)]
    },
    "slow-others": Part("slow tests of all other folders", other_slow_tests()),
    "histories": Part("over 2,000 runs on stores with random histories", histories),
    "simulation": Part("10,000 schedules of racing runs on a simulated store", simulation),
    "faults": Part("150 runs that meet a fault, and the runs after them", faults),
    "wheel": Part("the wheel, built and tried in a fresh environment", wheel),
    "python-3.12": Part("the unit tests under Python 3.12", unit_tests_under("3.12")),
    "python-3.13": Part("the unit tests under Python 3.13", unit_tests_under("3.13")),
    "python-3.14": Part("the unit tests under Python 3.14", unit_tests_under("3.14")),
}
