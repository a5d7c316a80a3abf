"""The examples of docs/python.md run, in their order, on the store of the tests."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from curation.cli import app

from .conftest import Made

BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(root: Path, language: str) -> list[str]:
    text = (root / "docs" / "python.md").read_text(encoding="utf-8")
    return [code for kind, code in BLOCK.findall(text) if kind == language]


def test_the_python_of_the_page_runs(root: Path, made: Made) -> None:
    names: dict[str, Any] = {}
    for code in blocks(root, "python"):
        exec(compile(code.replace("data/store", str(made.store)), "python.md", "exec"), names)
    assert names["answer"].found == 1
    assert len(names["frame"]) == names["copies"].rows
    assert names["table"].num_rows == names["store"].table("dataset").rows
    names["store"].close()


def test_the_commands_of_the_page_run(root: Path, made: Made) -> None:
    lines = [line for code in blocks(root, "sh") for line in code.splitlines()]
    assert len(lines) == 5
    for line in lines:
        program, *arguments = shlex.split(line.replace("data/store", str(made.store)))
        assert program == "curation"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (line, done.exception)
        assert done.output
