"""A file that cannot be written is refused before the work, by every command that writes one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from curation.cli import app
from curation.cli.output_file import whole_file
from curation.errors import RecipeError

from .test_facts import COMMANDS

FOLDERS = {("audit dedup", "--out")}
"""Options that name a folder, which is made."""
WRITING = sorted(
    (name, option)
    for name, command in COMMANDS.items()
    for parameter in command.params
    for option in parameter.opts
    if option in ("--out", "--html") and (name, option) not in FOLDERS
)


def required(command: Any) -> list[str]:
    """Words for what a command needs besides; it is refused before any of them is read."""
    words: list[str] = []
    for parameter in command.params:
        if parameter.required and "--out" not in parameter.opts:
            option = parameter.opts[0]
            words += [option, "x"] if option.startswith("--") else ["x"]
    return words


def test_commands_that_write_are_known() -> None:
    assert set(WRITING) >= OF_ONE_FORMAT


@pytest.mark.parametrize(("name", "option"), WRITING)
def test_a_folder_that_is_not_there_is_said_first(
    name: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*name.split(), *required(COMMANDS[name]), option, "absent/a.file"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, RecipeError), (words, done.exception, done.output)
    (detail,) = done.exception.details
    assert (detail.where, detail.found) == (option, "absent/a.file")
    assert "no folder 'absent'" in detail.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "option"), WRITING)
def test_a_folder_in_place_of_the_file_is_said_first(
    name: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    words = [*name.split(), *required(COMMANDS[name]), option, "out"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, RecipeError), (words, done.exception, done.output)
    assert "'out' is a folder" in done.exception.details[0].message


def test_a_file_of_the_working_folder_needs_none(tmp_path: Path) -> None:
    group = typer.main.get_command(app)
    for name, option in WRITING:
        file = "a.safetensors" if name == "train-filter" else "a.file"
        words = [*required(COMMANDS[name]), option, file]
        # Raises an error if the option is refused.
        COMMANDS[name].make_context(name, words, parent=group.make_context("curation", [name]))


OF_ONE_FORMAT = {
    ("calibrate", "--out"),
    ("diff", "--out"),
    ("init", "--out"),
    ("search", "--html"),
    ("search", "--out"),
    ("sql", "--out"),
    ("train-filter", "--out"),
}


@pytest.mark.parametrize(("name", "option"), sorted(OF_ONE_FORMAT))
def test_the_name_of_another_format_is_refused(
    name: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs, people and recipes open a file by its ending."""
    monkeypatch.chdir(tmp_path)
    for ending in (".json", ".CSV", ".toml"):
        words = [*name.split(), *required(COMMANDS[name]), option, f"a{ending}"]
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, RecipeError), (words, done.exception, done.output)
        (detail,) = done.exception.details
        assert (detail.where, detail.found) == (option, f"a{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["diff", "search", "sql"])
def test_a_table_takes_the_place_of_no_pipe(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor of a device: root may replace /dev/null."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    done = CliRunner().invoke(app, [name, *required(COMMANDS[name]), "--out", "pipe"])
    assert isinstance(done.exception, RecipeError), (done.exception, done.output)
    assert "is a pipe or a device" in done.exception.details[0].message
    assert Path("pipe").is_fifo()


def test_a_table_is_written_through_a_link(tmp_path: Path) -> None:
    link, target = tmp_path / "latest.parquet", tmp_path / "1.parquet"
    link.symlink_to(target.name)
    for content in (b"first", b"second"):
        with whole_file(str(link)) as file:
            file.write(content)
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["at 12:30.parquet", "file:a.parquet", "a\udcff.parquet"])
def test_a_table_has_any_name_that_a_file_may_have(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with whole_file(name) as file:
        pq.write_table(pa.table({"n": [1]}), file)
    assert [path.name for path in tmp_path.iterdir()] == [name]
