"""Runs the checks that are too long for every change, in named parts of at most 60 minutes each.

    python scripts/nightly.py                      # all parts; `make nightly` does the same
    python scripts/nightly.py --list
    python scripts/nightly.py --only benchmarks-tiny

A part that passed is noted with the commit in `data/nightly/state.json`, and is not run again for that
commit. So a run that was stopped goes on with the parts that are missing. Where the work tree differs
from the commit, every part runs and nothing is noted. Output goes to `data/nightly/<part>.log`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from curation.terminal import visible

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "data" / "nightly"
LIMIT_S = 3600.0
"""Seconds that a part may take."""
SHOWN_LINES = 40
NO_TESTS = 5
"""The exit status of pytest where no test was selected."""

HISTORIES = "tests/reuse"
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


class Outcome(NamedTuple):
    """How a part ended: `passed`, `failed`, `skipped` or `unavailable`; seconds, and a remark."""

    result: str
    seconds: float = 0.0
    remark: str = ""


# -- the parts ------------------------------------------------------------------------------------


def python(*arguments: str) -> tuple[str, ...]:
    """Return a command of the interpreter that runs this."""
    return (sys.executable, *arguments)


def tiny_benchmarks() -> list[Command]:
    """Return a tiny run of every benchmark."""
    sources = sorted((ROOT / "benchmarks").glob("*.py"))
    # The other modules of the folder are imported by benchmarks.
    programs = [path.stem for path in sources if "__main__" in path.read_text(encoding="utf-8")]
    return [Command(python("-m", f"benchmarks.{name}", "--tiny")) for name in programs]


def slow_tests() -> list[Command]:
    """Return the tests that are marked `slow` or `nightly`."""
    selected = python("-m", "pytest", "-m", "slow or nightly", "-n", "2", "--durations", "10")
    # Tests of one file share stores that are made once, as in `make test`.
    selected += ("--dist", "loadfile", "--no-loadscope-reorder")
    return [Command((*selected, "--ignore", HISTORIES), allowed=(0, NO_TESTS))]


def histories() -> list[Command]:
    """Return the runs on stores with random histories, of which `make test` runs the first few."""
    return [Command(python("-m", "pytest", "-m", "nightly", HISTORIES, "-n", "2"))]


def simulation() -> list[Command]:
    """Return the racing runs on a simulated store, of which `make test` runs the first 500."""
    return [Command(python("-m", "tests.simulation", "--schedules", "10000", "--processes", "2"))]


def faults() -> list[Command]:
    """Return the runs that meet a fault, of which `make test` runs 20; some are on a cluster."""
    some = python("-m", "tests.faults", "--cases", "150")
    on_cluster = python("-m", "tests.faults", "--cases", "16", "--workers", "standalone")
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
            Command(tests, clone),
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
    "slow-tests": Part("the tests that are marked slow or nightly", slow_tests),
    "histories": Part("over 2,000 runs on stores with random histories", histories),
    "simulation": Part("10,000 schedules of racing runs on a simulated store", simulation),
    "faults": Part("150 runs that meet a fault, and the runs after them", faults),
    "wheel": Part("the wheel, built and tried in a fresh environment", wheel),
    "python-3.12": Part("the unit tests under Python 3.12", unit_tests_under("3.12")),
    "python-3.13": Part("the unit tests under Python 3.13", unit_tests_under("3.13")),
}


# -- running --------------------------------------------------------------------------------------


@dataclass
class State:
    """The parts that passed for a commit, in a file.

    Attributes:
        path: the file.
        commit: what is checked; None where the work tree differs from the commit.
        passed: seconds by part.
    """

    path: Path
    commit: str | None
    passed: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, commit: str | None) -> State:
        """Return what is noted for a commit; what is noted for others is forgotten."""
        noted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known = commit is not None and noted.get("commit") == commit
        return cls(path, commit, noted["passed"] if known else {})

    def note(self, part: str, seconds: float) -> None:
        """Note that a part passed, unless the work tree differs from the commit."""
        self.passed[part] = seconds
        if self.commit is not None:
            text = json.dumps({"commit": self.commit, "passed": self.passed}, indent=1)
            partial = self.path.with_suffix(".part")
            partial.write_text(f"{text}\n", encoding="utf-8")
            partial.replace(self.path)


def current_commit() -> str | None:
    """Return the commit of the checkout; None where tracked files differ from it."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return None if changed else _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


def run_part(name: str, part: Part, folder: Path) -> Outcome:
    """Run the commands of a part; all of them, though one fails."""
    try:
        commands = part.commands()
    except UnavailableError as error:
        return Outcome("unavailable", remark=str(error))
    begun, failed = time.monotonic(), []
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        for command in commands:
            left = begun + LIMIT_S - time.monotonic()
            if run_command(command, log, left) not in command.allowed:
                failed.append(" ".join(command.arguments))
    seconds = time.monotonic() - begun
    if failed:
        return Outcome(
            "failed", seconds, f"{failed[0]}" + f" (of {len(failed)})" * bool(failed[1:])
        )
    return Outcome("passed", seconds)


def run_command(command: Command, log: IO[str], timeout_s: float) -> int:
    """Run a command with its output in a log; return its exit status, 124 where it took too long."""
    log.write(f"$ {' '.join(command.arguments)}\n")
    log.flush()
    process = subprocess.Popen(
        command.arguments,
        cwd=command.folder,
        env={**os.environ, **command.environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(max(timeout_s, 0))
    except subprocess.TimeoutExpired:
        log.write(f"stopped: a part may take {LIMIT_S / 60:.0f} minutes\n")
        return 124
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_parts(parts: Mapping[str, Part], state: State) -> dict[str, Outcome]:
    """Run the parts that did not pass yet for the commit; print each as it ends."""
    folder = state.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = {}
    for name, part in parts.items():
        if name in state.passed:
            outcomes[name] = Outcome("skipped", state.passed[name], "passed before")
            continue
        print(f"{name}: {part.about} …", flush=True)
        outcomes[name] = run_part(name, part, folder)
        if outcomes[name].result == "passed":
            state.note(name, outcomes[name].seconds)
        elif outcomes[name].result == "failed":
            show_end(folder / f"{name}.log")
    return outcomes


def show_end(log: Path) -> None:
    """Print the last lines of a log."""
    lines = visible(log.read_text(encoding="utf-8", errors="replace")).splitlines()
    print(*(f"  {line}" for line in lines[-SHOWN_LINES:]), f"  … all of it: {log}", sep="\n")


def summary(outcomes: Mapping[str, Outcome]) -> Iterable[str]:
    """Yield the lines of a table: part, result, seconds, remark."""
    yield f"{'part':<18}{'result':<13}{'seconds':>8}  remark"
    for name, (result, seconds, remark) in outcomes.items():
        yield f"{name:<18}{result:<13}{seconds:>8.0f}  {remark}".rstrip()


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return 1 where a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="list the parts, and run none")
    parser.add_argument(
        "--only", metavar="PART", action="append", choices=list(PARTS), help="one part; repeatable"
    )
    options = parser.parse_args(arguments)
    parts = {name: PARTS[name] for name in options.only or PARTS}
    state = State.read(FOLDER / "state.json", current_commit())
    if options.list:
        for name, part in parts.items():
            print(f"{name:<18}{part.about}{' (passed)' if name in state.passed else ''}")
        return 0
    outcomes = run_parts(parts, state)
    print("", *summary(outcomes), sep="\n")
    return int(any(outcome.result == "failed" for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
