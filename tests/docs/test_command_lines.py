"""Every command line of the documentation is one that the program takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from curation.cli import app

from .test_docs import documents

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INNER = re.compile(r"\$\((curation [^)]*)\)")
INLINE = re.compile(r"`(curation [^`]+)`")
ENDS = {"|", "&&", ";", ">", ">/dev/null", "2>&1"}
"""Words of the shell that end a command."""
PROGRAM = typer.main.get_command(app)


def pages(root: Path) -> list[Path]:
    return [*documents(root), root / "examples" / "README.md", root / "quickstart" / "README.md"]


def commands_of(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of this program in a line of a shell."""
    for inner in INNER.findall(line):
        yield shlex.split(inner)
    words = shlex.split(INNER.sub("x", line), comments=True)
    if words[:1] == ["curation"]:
        end = next((n for n, word in enumerate(words) if word in ENDS), len(words))
        yield words[:end]


def resolved(words: list[str]) -> tuple[Any, list[str]]:
    """The command that some words name, and the words after its name."""
    command, rest = PROGRAM, words[1:]
    while rest and hasattr(command, "commands"):
        name, *rest = rest
        assert name in command.commands, f"{' '.join(words)}: there is no command {name!r}"
        command = command.commands[name]
    return command, rest


def in_blocks(root: Path) -> list[tuple[str, list[str]]]:
    return [
        (page.name, words)
        for page in pages(root)
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
        for words in commands_of(line)
    ]


def test_command_lines_of_blocks_are_valid(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = in_blocks(root)
    assert len(lines) > 50
    for page, words in lines:
        command, rest = resolved(words)
        parent = PROGRAM.make_context("curation", ["runs"])
        try:
            command.make_context(command.name, list(rest), parent=parent)
        except Exception as error:
            raise AssertionError(f"{page}: {' '.join(words)}: {error}") from error


def test_commands_and_options_that_the_text_names_are_there(root: Path) -> None:
    named = [
        (page.name, line.split())
        for page in pages(root)
        if page.name != "CHANGELOG.md"
        for line in INLINE.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    ]
    assert len(named) > 60
    for page, words in named:
        if words[1].startswith(("-", "…")):
            continue
        command, rest = resolved([word for word in words if word != "…"])
        known = {name for parameter in command.params for name in parameter.opts}
        options = {word.strip("[]") for word in rest if word.strip("[]").startswith("--")}
        assert options <= known, f"{page}: {' '.join(words)}"
