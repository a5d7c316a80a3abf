"""`curation quickstart` in a folder of the user's; the whole run is tried by scripts/check_wheel.py."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from curation.engine.resources import PACKAGE, project_module, resource_dir
from quickstart import commands
from quickstart.build import read_stamp
from quickstart.commands import RECIPE, WEB, again

# A recipe that is refused before any work, so that no Spark is started.
REFUSED = "name: mine\nsources: []\nfech: {}\n"


@pytest.fixture
def folder(out: Path, tmp_path: Path) -> Path:
    """A folder with a mini-web that is built already, and a name that shells would divide."""
    place = tmp_path / "my folder"
    shutil.copytree(out, place / WEB)
    return place


def quickstart(folder: Path, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "curation.cli", *options, "quickstart", str(folder)]
    return subprocess.run(
        [*command, "--port", str(port)], capture_output=True, text=True, check=False
    )


def test_a_recipe_that_was_changed_is_run_as_it_is(folder: Path, port: int) -> None:
    (folder / RECIPE).write_text(REFUSED)
    ended = quickstart(folder, port, "--log-format", "json")
    assert ended.returncode == 2, ended.stderr
    assert "is not the shipped recipe any more" in ended.stderr
    assert "did you mean 'fetch'" in ended.stderr
    # The options before the command count for the run too.
    assert '"level"' in ended.stderr
    assert (folder / RECIPE).read_text() == REFUSED


def test_editors_find_the_schema_of_the_recipe(
    folder: Path, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "build", lambda web, port: None)
    monkeypatch.setattr(commands, "serve", lambda *call: 0)
    shipped = resource_dir("conf") / "recipes" / "quickstart.yaml"
    for _ in range(2):
        assert commands.curate(folder, port, shipped) == 0
    assert capsys.readouterr().err == ""
    first, *lines = (folder / RECIPE).read_text().splitlines()
    schema = folder / first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(schema.read_text())["title"]
    assert lines == shipped.read_text().splitlines()[1:]


def test_a_used_port_is_one_message(tmp_path: Path) -> None:
    """Before the mini-web is built, maybe in place of one for another port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        used = other.getsockname()[1]
        ended = quickstart(tmp_path / "new", used)
    assert ended.returncode == 2
    assert f"--port {used + 1}" in ended.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_a_later_call_without_a_port_keeps_that_of_the_first(
    folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lists link to this port: all would be fetched and computed again."""
    monkeypatch.delenv("QUICKSTART_PORT", raising=False)
    (folder / RECIPE).write_text(REFUSED)
    before = {f: f.stat().st_mtime_ns for f in (folder / WEB).rglob("*") if f.name != "access.log"}
    command = [sys.executable, "-m", "curation.cli", "quickstart", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "did you mean 'fetch'" in ended.stderr
    after = {f: f.stat().st_mtime_ns for f in (folder / WEB).rglob("*") if f.name != "access.log"}
    assert (after == before, read_stamp(folder / WEB)["port"]) == (True, port)


def test_the_next_command_can_be_pasted(folder: Path) -> None:
    command = again(folder).replace("curation", "echo", 1)
    shown = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    assert shown == "run quickstart.yaml --store data/store\n"


def test_modules_of_the_project_are_next_to_the_package() -> None:
    assert project_module("quickstart.web").__name__ == "quickstart.web"
    assert resource_dir("jobs") == PACKAGE.parent / "jobs"
