"""The nightly parts: which run, which are skipped, and what is noted."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from scripts.nightly import State, run_command, run_parts, summary
from scripts.nightly_parts import (
    HISTORIES,
    PARTS,
    SLOW_TESTS,
    Command,
    Part,
    UnavailableError,
    find_interpreter,
    tiny_benchmarks,
)


def appending(path: Path, status: int = 0, allowed: tuple[int, ...] = (0,)) -> Part:
    """A part that appends a line to a file, and ends with a status."""
    code = (
        f"import sys; open({str(path)!r}, 'a').write('ran\\n'); print('said'); sys.exit({status})"
    )
    return Part("appends", lambda: [Command((sys.executable, "-c", code), allowed=allowed)])


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "nightly" / "state.json"


def runs(path: Path) -> int:
    return path.read_text().count("ran") if path.exists() else 0


def test_a_part_that_passed_is_skipped_for_the_same_commit_only(
    tmp_path: Path, state_file: Path
) -> None:
    out = tmp_path / "out"
    parts = {"one": appending(out)}
    first = run_parts(parts, State.read(state_file, "a"))
    again = run_parts(parts, State.read(state_file, "a"))
    assert (first["one"].result, again["one"].result, runs(out)) == ("passed", "skipped", 1)
    assert (state_file.parent / "one.log").read_text().endswith("said\n")
    assert run_parts(parts, State.read(state_file, "b"))["one"].result == "passed"
    assert json.loads(state_file.read_text())["commit"] == "b"


def test_a_part_that_failed_runs_again_and_the_others_go_on(
    tmp_path: Path, state_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    parts = {"bad": appending(bad, status=3), "good": appending(good)}
    for _ in range(2):
        outcomes = run_parts(parts, State.read(state_file, "a"))
    assert outcomes["bad"].result == "failed"
    assert (runs(bad), runs(good)) == (2, 1)
    assert "  said" in capsys.readouterr().out


def test_nothing_is_noted_where_the_work_tree_differs(tmp_path: Path, state_file: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        run_parts({"one": appending(out)}, State.read(state_file, None))
    assert runs(out) == 2
    assert not state_file.exists()


def test_all_commands_of_a_part_run_though_one_fails(tmp_path: Path, state_file: Path) -> None:
    out = tmp_path / "out"
    commands = [*appending(out, status=1).commands(), *appending(out).commands()]
    outcome = run_parts({"both": Part("two", lambda: commands)}, State.read(state_file, "a"))
    assert outcome["both"].result == "failed"
    assert runs(out) == 2


def test_an_allowed_status_is_a_success(tmp_path: Path, state_file: Path) -> None:
    part = appending(tmp_path / "out", status=5, allowed=(0, 5))
    assert run_parts({"none": part}, State.read(state_file, "a"))["none"].result == "passed"


def test_a_part_that_cannot_run_here_says_why_and_is_no_failure(state_file: Path) -> None:
    def commands() -> list[Command]:
        raise UnavailableError("no Python 9.9")

    outcome = run_parts({"new": Part("new", commands)}, State.read(state_file, "a"))["new"]
    assert (outcome.result, outcome.remark) == ("unavailable", "no Python 9.9")
    assert any("no Python 9.9" in line for line in summary({"new": outcome}))


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    waiting = Command((sys.executable, "-c", "import signal; signal.pause()"))
    with (tmp_path / "log").open("w") as log:
        assert run_command(waiting, log, timeout_s=0.5) == 124


def test_interpreters_are_found_by_version() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        assert version in find_interpreter(version)
    except UnavailableError:
        pytest.skip(f"python{version} is neither on PATH nor pyenv's")
    with pytest.raises(UnavailableError, match=r"no Python 9\.9"):
        find_interpreter("9.9")


def test_every_benchmark_has_a_tiny_run(root: Path) -> None:
    modules = [command.arguments[-2].partition(".")[2] for command in tiny_benchmarks()]
    assert len(modules) > 10
    for module in modules:
        assert "parser_of(__doc__)" in (root / "benchmarks" / f"{module}.py").read_text()
    readme = (root / "benchmarks" / "README.md").read_text()
    assert [m for m in modules if f"benchmarks.{m}" not in readme] == []


def test_parts_have_names_for_a_table() -> None:
    assert all(len(name) < 18 for name in PARTS)


MARKED = re.compile(r"mark\.(slow|nightly)\b")


def selects(command: Command, path: str) -> bool:
    """Whether a command of pytest collects the slow tests of a file."""
    words = command.arguments[command.arguments.index("pytest") :]
    ignored = [word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")]
    chosen = [word for word in words if word.startswith("tests")] or ["tests"]
    is_slow = words[words.index("-m") + 1] == "slow or nightly"
    below = [any(path.startswith(f"{f}/") for f in folders) for folders in (chosen, ignored)]
    return is_slow and below == [True, False]


def test_every_slow_test_is_in_exactly_one_part(root: Path) -> None:
    marked = [
        str(path.relative_to(root))
        for path in sorted((root / "tests").rglob("test_*.py"))
        if MARKED.search(path.read_text(encoding="utf-8"))
    ]
    assert len(marked) > 30
    slow = {n: p.commands() for n, p in PARTS.items() if n.startswith("slow-") or n == "histories"}
    parts_of = {
        path: [n for n, commands in slow.items() if any(selects(c, path) for c in commands)]
        for path in marked
    }
    assert {path: parts for path, parts in parts_of.items() if len(parts) != 1} == {}
    # No part is empty, and no folder is named that is gone.
    assert {part for (part,) in parts_of.values()} == slow.keys()
    folders = [folder for each in SLOW_TESTS.values() for folder in each]
    assert [folder for folder in (HISTORIES, *folders) if not (root / folder).is_dir()] == []


def test_other_interpreters_run_what_make_test_runs() -> None:
    try:
        *_, tests = PARTS[f"python-3.{sys.version_info.minor + 1}"].commands()
    except (KeyError, UnavailableError):
        pytest.skip("no other interpreter")
    assert tests.arguments[-2:] == ("-m", "not nightly")


def test_the_page_and_the_workflow_have_every_part(root: Path) -> None:
    page = (root / "docs" / "nightly.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert listed == list(PARTS)
    workflow = yaml.safe_load((root / ".github" / "workflows" / "nightly.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["part"] == list(PARTS)
    assert job["strategy"]["fail-fast"] is False
