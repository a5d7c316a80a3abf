"""benchmarks/gpu.sh runs where little is installed, and says what it did."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks import gpu

NEEDED = ("torch", "torchvision", "numpy", "pyarrow", "timm")
BLOCKER = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

NAMES = set({names!r})


class Few:
    find_distributions = PathFinder.find_distributions

    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, path, target) if name.partition(".")[0] in NAMES else None


sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Few]
"""
"""A sitecustomize.py with which only some packages are there."""


def closure(names: tuple[str, ...]) -> set[str]:
    """Return distributions, and everything that they require without extras."""
    reached, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in reached:
            continue
        try:
            requirements = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        reached.add(name)
        plain = {"extra": ""}
        waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate(plain)]
    return reached


def importable(distributions: set[str]) -> list[str]:
    """Return the packages that may be imported where only some distributions are installed."""
    installed = {
        package
        for package, names in packages_distributions().items()
        if distributions & {name.lower().replace("_", "-") for name in names}
    }
    # The standard library has this one too, under a name of the machine.
    built = sysconfig._get_sysconfigdata_name()  # type: ignore[attr-defined]
    ours = "curation", "benchmarks", "tests"
    return sorted({*sys.stdlib_module_names, *installed, built, *ours})


def python_with(distributions: tuple[str, ...], folder: Path) -> Path:
    """Return an interpreter that can import some distributions and what they need, and no others."""
    names = importable(closure(distributions))
    absent = {"pyspark", "faiss", "cv2", "img2dataset", "pydantic", "simplejpeg", "scipy"}
    assert not absent & set(names)
    (folder / "sitecustomize.py").write_text(BLOCKER.format(names=names), encoding="utf-8")
    python = folder / "python"
    # The script sets PYTHONPATH, and the blocker must come before everything else.
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH={folder}:$PYTHONPATH exec {sys.executable} -P "$@"\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    return python


@pytest.mark.timeout(120)
def test_it_runs_where_little_is_installed(root: Path, tmp_path: Path) -> None:
    python, out = python_with(NEEDED, tmp_path), tmp_path / "gpu.md"
    done = subprocess.run(
        ["sh", root / "benchmarks" / "gpu.sh", "--device", "cpu", "--tiny", "--out", out],
        env=os.environ | {"PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = out.read_text(encoding="utf-8")
    assert written.strip() in done.stdout
    for stage in ("cluster", "assign", "neighbours", "match", "embed"):
        assert f"**{stage}**" in written
    assert "faiss" not in written.partition("**cluster**")[2]
    # Each check against float64 passed.
    assert written.count("64 of 64 queries as in float64") == 3
    assert "1.000 of 64 as in float64" in written


@pytest.mark.timeout(120)
@pytest.mark.parametrize("more", [("pytest", "hypothesis"), ("pytest",), ()])
def test_the_tests_of_a_gpu_run_where_little_is_installed(
    more: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    """Plug-ins that the options of this project name may be absent. Without a GPU all tests skip."""
    python = python_with((*NEEDED, *more), tmp_path)
    lines = "import sys", "from benchmarks import gpu", "sys.executable = sys.argv[1]"
    code = "\n".join((*lines, "print(gpu.run_tests())"))
    done = subprocess.run(
        [python, "-c", code, python],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if len(more) == 2:
        assert re.search(r": \d+ (skipped|passed), .*\.$", done.stdout), done.stdout
        assert "error" not in done.stdout
    else:
        assert "not run, because" in done.stdout


def test_it_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cuda", "--tiny"])
    with pytest.raises(SystemExit, match="--device cpu --tiny"):
        gpu.main()
