"""The page docs/extending.md is true: its examples work, and touch no other file than it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.extensions import Block, extensions
from scripts.structure import import_graph, sideways_imports, upward_imports

TREES = ("curation", "schemas", "conf", "jobs")
HELPERS = (
    "benchmarks/__init__.py",
    "benchmarks/tables.py",
    "scripts/__init__.py",
    "scripts/closure.py",
    "scripts/structure.py",
    "tests/__init__.py",
    "tests/pins.json",
    "tests/pins.py",
    "tests/tables.py",
    "tests/docs/__init__.py",
    "tests/docs/checks",
)
HEAVY = "curation/media/encoders/weights"
EXTENSIONS = extensions()
MOST_EDITED = {"Stage": 4, "Table column": 2, "Export": 2, "Plug-ins": 0}
"""Existing files that an extension may need to edit; any other kind may edit one."""
STAGES_OF_K_MEANS = ("assign", "cluster", "index", "neighbours", "quantise")
CHANGED_PINS = {
    *(f"stage {stage}: code changed" for stage in STAGES_OF_K_MEANS),
    "contract dataset: columns changed",
    "stage assemble: code changed",
}
"""Pins of what was there that all examples together change: by a back end, and by a column."""
RULES = (
    "tests/structure/test_error_sites.py",
    "tests/test_recipe_docs.py",
    "tests/cli/test_output_files.py",
    "tests/cost/test_cost.py::test_every_stage_has_a_cost",
)
"""Tests of rules that every file, field, command and stage keeps."""


def slug(kind: str) -> str:
    """The name of the check of a kind."""
    return re.sub(r"\W+", "_", kind.lower())


def copied(root: Path, tree: Path) -> Path:
    """Copy the code, without weights, which are linked."""
    hidden = shutil.ignore_patterns("__pycache__", Path(HEAVY).name)
    for name in TREES:
        shutil.copytree(root / name, tree / name, ignore=hidden)
    (tree / HEAVY).symlink_to(root / HEAVY)
    for name in HELPERS:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        copy(root / name, tree / name)
    return tree


def contents(tree: Path) -> dict[str, bytes]:
    """The files of a tree by path."""
    paths = (path for name in TREES for path in (tree / name).rglob("*") if path.is_file())
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in paths}


def applied(blocks: list[Block], tree: Path) -> Path:
    for block in blocks:
        block.apply(tree)
    return tree


def run_in(tree: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module with the code of a tree."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_an_example_works_and_touches_what_the_page_says(
    kind: str, root: Path, tmp_path: Path
) -> None:
    tree, work = copied(root, tmp_path / "tree"), tmp_path / "work"
    work.mkdir()
    before = contents(tree)
    applied(EXTENSIONS[kind], tree)
    done = run_in(tree, work, f"tests.docs.checks.{slug(kind)}")
    assert done.returncode == 0, done.stdout + done.stderr
    after = contents(tree)
    edited = {path for path, content in before.items() if after.get(path) != content}
    assert edited == {block.path for block in EXTENSIONS[kind] if not block.is_new}
    assert len(edited) <= MOST_EDITED.get(kind, 1)
    # A plug-in is no part of the tree.
    new = {block.path for block in EXTENSIONS[kind] if block.is_new and "/" in block.path}
    assert after.keys() - before.keys() == new


def test_every_kind_has_a_check_and_every_check_a_kind(root: Path) -> None:
    checks = {path.stem for path in (root / "tests/docs/checks").glob("*.py")} - {"common"}
    assert checks == {slug(kind) for kind in EXTENSIONS}


def test_examples_change_no_pin_of_what_was_there(root: Path, tmp_path: Path) -> None:
    tree = copied(root, tmp_path)
    for blocks in EXTENSIONS.values():
        applied(blocks, tree)
    done = run_in(tree, tree, "tests.pins", "--check")
    assert not done.stderr
    changed = {line.partition(",")[0] for line in done.stdout.splitlines()}
    assert {line for line in changed if not line.endswith(": new")} == CHANGED_PINS


def test_examples_keep_the_rules_of_the_code(root: Path, tmp_path: Path) -> None:
    """All together: layers, what ruff asks for, and the tests of rules."""
    tree = copied(root, tmp_path / "tree")
    for blocks in EXTENSIONS.values():
        applied(blocks, tree)
    graph = import_graph(tree / "curation")
    assert "curation.stages.palette.stage" in graph
    assert not upward_imports(graph) + sideways_imports(graph)
    shutil.copy(root / "pyproject.toml", tree)
    for command in (["check"], ["format", "--check"]):
        done = run_in(tree, tree, "ruff", *command, ".")
        assert done.returncode == 0, done.stdout
    for name in ("tests", "scripts", "quickstart", "examples"):
        shutil.copytree(root / name, tree / name, dirs_exist_ok=True)
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'work'}")
    done = run_in(tree, tree, "pytest", *options, *RULES)
    assert done.returncode == 0, done.stdout


def test_a_block_whose_place_is_not_found_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 2\n")
    for anchor in ("y", "x ="):
        block = Block("a.py", False, f"# after: {anchor}\nz = 3\n")
        with pytest.raises(ValueError, match="wanted is one"):
            block.apply(tmp_path)
    with pytest.raises(ValueError, match="is there already"):
        Block("a.py", True, "").apply(tmp_path)
    Block("a.py", False, "# after: x = 1\nz = 3\n# replace: x = 2\nw = 4\n").apply(tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 1\nz = 3\nw = 4\n"
