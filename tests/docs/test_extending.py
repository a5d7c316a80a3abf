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
    "tests/__init__.py",
    "tests/tables.py",
    "tests/docs/__init__.py",
    "tests/docs/checks",
)
HEAVY = "curation/media/encoders/weights"
EXTENSIONS = extensions()
MOST_EDITED = {"Stage": 4, "Table column": 2, "Export": 2, "Plug-ins": 0}
"""Existing files that an extension may need to edit; any other kind may edit one."""


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


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_an_example_works_and_touches_what_the_page_says(
    kind: str, root: Path, tmp_path: Path
) -> None:
    tree, work = copied(root, tmp_path / "tree"), tmp_path / "work"
    work.mkdir()
    before = contents(tree)
    applied(EXTENSIONS[kind], tree)
    done = subprocess.run(
        [sys.executable, "-m", f"tests.docs.checks.{slug(kind)}"],
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
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


def test_examples_keep_the_rules_of_the_code(root: Path, tmp_path: Path) -> None:
    """All together: layers, and what ruff asks for."""
    tree = copied(root, tmp_path)
    for blocks in EXTENSIONS.values():
        applied(blocks, tree)
    graph = import_graph(tree / "curation")
    assert "curation.stages.palette.stage" in graph
    assert not upward_imports(graph) + sideways_imports(graph)
    shutil.copy(root / "pyproject.toml", tree)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            cwd=tree,
            capture_output=True,
            text=True,
            check=False,
        )
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
