"""Every example runs as its first lines say, one after the other on the same small store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPECTED = {
    "why_is_it_here": ("The most claimed is", "near: 18 images", "stand for copies of theirs"),
    "read_embeddings": ("48 vectors of 192 numbers", "cosine 1.000", "the same 48 vectors"),
    "own_filter": ("embed       up to date", "screen      computed", "redness: from"),
    "one_stage": ("min_side 64: 42 eligible, up to date",),
    "own_vectors": ("No pixels are fetched", "30 near copies removed", "dataset: 100 images"),
}
"""What each example prints, among other lines."""


def run_example(root: Path, name: str, store: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(root / "examples" / f"{name}.py"), "--store", str(store)],
        cwd=store.parent,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the first example, which the others read."""
    folder = tmp_path_factory.mktemp("examples") / "store"
    printed = run_example(root, "small_run", folder)
    assert "assemble" in printed.splitlines()[-1]
    return folder


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_prints_what_it_promises(root: Path, store: Path, name: str) -> None:
    printed = run_example(root, name, store)
    for text in EXPECTED[name]:
        assert text in printed, printed


def test_every_example_is_run(root: Path) -> None:
    scripts = {p.stem for p in (root / "examples").glob("*.py") if "__main__" in p.read_text()}
    assert scripts == {"small_run", *EXPECTED}
