"""The notebooks of `examples/` run, and print what they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from scripts.run_notebooks import MAX_BYTES, execute, notebooks, printed

WITHOUT_SPARK = "from_vectors_to_a_balanced_set"
VARY = {"first_look": {"code-08", "code-15"}, WITHOUT_SPARK: {"code-05", "code-11"}}
"""Cells that show times, digests, pictures or distances."""


@pytest.fixture(params=sorted(notebooks()))
def path(request: pytest.FixtureRequest) -> Path:
    return notebooks()[request.param]


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_a_notebook_is_small_was_executed_and_names_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) <= MAX_BYTES
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    shown = json.dumps(outputs(notebook))
    assert not re.search(r"/(tmp|work|home|root|Users)/", shown)
    assert "Traceback" not in shown
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {cell.id for cell in code} - set(printed(notebook)) == VARY[path.stem]


def check(name: str, folder: Path) -> None:
    path = notebooks()[name]
    assert printed(execute(path, folder)) == printed(nbformat.read(path, as_version=4))


def test_the_notebook_of_vectors_prints_what_it_has(tmp_path: Path) -> None:
    check(WITHOUT_SPARK, tmp_path)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(VARY) - {WITHOUT_SPARK}))
def test_other_notebooks_print_what_they_have(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)
