"""The nightly parts: which run, which are skipped, and what is noted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts.nightly import (
    PARTS,
    Command,
    Part,
    State,
    UnavailableError,
    find_interpreter,
    run_command,
    run_parts,
    summary,
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


def test_the_documentation_has_every_part(root: Path) -> None:
    table = (root / "docs" / "nightly.md").read_text(encoding="utf-8")
    assert [name for name in PARTS if f"`{name}`" not in table] == []
