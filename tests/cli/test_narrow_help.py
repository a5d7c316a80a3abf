"""Help in a narrow terminal names every option in full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALL_HELP = """
import sys
import typer
from curation.cli import app
from typer.testing import CliRunner

def show(command, words):
    print(CliRunner().invoke(app, [*words, "--help"]).output)
    for option in (name for each in command.params for name in each.opts if name.startswith("--")):
        print("OPTION", *words, option)
    for name, inner in getattr(command, "commands", {}).items():
        show(inner, [*words, name])

show(typer.main.get_command(app), [])
"""


@pytest.mark.parametrize("columns", [40, 69, 70])
def test_no_option_is_cut(columns: int, root: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": str(columns)}
    done = subprocess.run(
        [sys.executable, "-c", ALL_HELP],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = ""
    options = 0
    for line in done.stdout.splitlines():
        if line.startswith("OPTION"):
            option = line.split()[-1]
            assert option in shown.split(), line
            options += 1
        elif line.lstrip().startswith("Usage:"):
            shown = line
        else:
            shown += f"\n{line}"
        # One pair of brackets tells what may be left out.
        assert "[[" not in line.replace("list[", "")
    assert options > 100
    assert "[dim]" not in done.stdout
    # Plain text would be cut within a sentence.
    assert " images,..." not in done.stdout
