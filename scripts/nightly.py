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
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from curation.terminal import visible
from scripts.nightly_parts import FOLDER, PARTS, ROOT, Command, Part, UnavailableError

LIMIT_S = 3600.0
"""Seconds that a part may take."""
SHOWN_LINES = 40


class Outcome(NamedTuple):
    """How a part ended: `passed`, `failed`, `skipped` or `unavailable`; seconds, and a remark."""

    result: str
    seconds: float = 0.0
    remark: str = ""


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
