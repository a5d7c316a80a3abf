"""Builds the wheel, installs it into a fresh environment, and tries it there.

    python scripts/check_wheel.py [--wheel dist/curation-….whl] [--python python3.12]

It needs uv, which the project's environment has. Dependencies have the versions of `constraints.txt`.
The trial, from a folder that is no checkout and without the Java of the machine: the version, the
files that the wheel ships, the plans of shipped recipes, `curation quickstart` by uvx, a second run
that finds nothing to do, and spark-submit with a shipped job.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "constraints.txt"
RECIPES = {"lvd142m": "142,109,386", "lvd1689m": "total", "vo743m": "100,000,000"}
"""Shipped recipes, and a part of what `curation plan` prints for each."""
PLACES = {
    "jobs": "run.py",
    "airflow_dags": "curation.py",
    "conf": "clusters/local.yaml",
    "schemas": "00_pairs.yaml",
    "docs": "your-data.md",
    "java": "bin/java",
}
"""What `curation where` names, and a file that is there."""
TRIAL = """\
from importlib.resources import files
from curation.engine.contract import contracts
package = files("curation")
assert (package / "py.typed").is_file(), "py.typed is missing"
for name in ("vit_micro", "copy_micro"):
    weights = package / "media" / "encoders" / "weights" / f"{name}.safetensors"
    assert weights.is_file(), f"{weights} is missing"
assert len(contracts()) > 10, "schemas/ is missing"
print(package)
"""
JAVA = ("java", "javac")
"""Programs that the trial must not find on PATH."""


def uv() -> str:
    """Return uv: of this environment, else of PATH."""
    beside = Path(sys.executable).parent / "uv"
    place = str(beside) if beside.exists() else shutil.which("uv")
    if place is None:
        raise SystemExit("uv is not installed: pip install uv")
    return place


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Run a command in a folder; return what it prints, or end with it where it fails.

    Args:
        command: the program and its arguments.
        folder: to run it in.
        variables: of the environment, beside those of this process.
    """
    line = [str(part) for part in command]
    done = subprocess.run(
        line,
        cwd=folder,
        env=os.environ | variables,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the wheel into a folder; return it."""
    run(uv(), "build", "--wheel", "--out-dir", folder, ROOT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def install(wheel: Path, folder: Path, python: str) -> Path:
    """Install a wheel into a new environment in a folder; return its `bin`."""
    run(uv(), "venv", "--python", python, folder / "venv", folder=folder)
    interpreter = folder / "venv" / "bin" / "python"
    options = ("--python", interpreter, "-c", PINS)
    run(uv(), "pip", "install", *options, requirement(wheel), folder=folder)
    return interpreter.parent


def requirement(wheel: Path) -> str:
    """Return what names a wheel and its extras to an installer."""
    return f"curation[cpu,java] @ {wheel.resolve().as_uri()}"


def forget_java(folder: Path) -> None:
    """Hide the Java of the machine from all that this process starts.

    Args:
        folder: gets links to the other programs on PATH.
    """
    folder.mkdir()
    for place in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for program in Path(place).glob("*"):
            link = folder / program.name
            if program.name not in JAVA and not link.is_symlink():
                link.symlink_to(program.absolute())
    os.environ["PATH"] = str(folder)
    os.environ.pop("JAVA_HOME", None)


def try_it(binaries: Path, wheel: Path, folder: Path) -> None:
    """Try the installed package from a folder that is no checkout."""
    version = run(binaries / "curation", "--version", folder=folder).strip()
    if f"-{version}-" not in wheel.name:
        raise SystemExit(f"{wheel.name} says that its version is {version}")
    package = Path(run(binaries / "python", "-c", TRIAL, folder=folder).strip().splitlines()[-1])
    if not package.is_relative_to(binaries.parent):
        raise SystemExit(f"the trial imported {package}, which the wheel did not install")
    for name, expected in RECIPES.items():
        recipe = package / "conf" / "recipes" / f"{name}.yaml"
        printed = run(binaries / "curation", "plan", recipe, folder=folder)
        expect(expected, printed, f"the plan of {name}")
    try_a_run(binaries, wheel, folder)
    print(f"{wheel.name} works: version {version}, plans of {', '.join(RECIPES)}, the quickstart")


def try_a_run(binaries: Path, wheel: Path, folder: Path) -> None:
    """Run the quickstart by uvx, run its recipe again, and run a job of the package by spark-submit."""
    curation = binaries / "curation"
    places = {name: run(curation, "where", name, folder=folder).strip() for name in PLACES}
    for name, file in PLACES.items():
        if not Path(places[name], file).is_file():
            raise SystemExit(f"`curation where {name}` names {places[name]}, without {file}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # What `uvx` runs. It makes another environment, with a Java of its own.
    uvx = (uv(), "tool", "run", "--python", binaries / "python", "-c", PINS)
    quickstart = ("curation", "quickstart", "first", "--port", port)
    printed = run(*uvx, "--from", requirement(wheel), *quickstart, folder=folder)
    expect("Composition of quickstart", printed, "the quickstart")
    recipe = ("quickstart.yaml", "--store", "data/store")
    printed = run(curation, "run", *recipe, folder=folder / "first")
    expect("Nothing to do", printed, "the second run")
    job = Path(places["jobs"], "run.py")
    submit = (binaries / "spark-submit", "--master", "local[1]", job)
    job_options = ("--recipe", *recipe, "--summary", "-")
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    wanted = {"PATH": path, "JAVA_HOME": places["java"], "SPARK_LOCAL_IP": "127.0.0.1"}
    printed = run(*submit, *job_options, folder=folder / "first", **wanted)
    expect('"report"', printed, "spark-submit")


def expect(part: str, printed: str, what: str) -> None:
    """End unless a text has a part."""
    if part not in printed:
        raise SystemExit(f"{what} did not print {part!r}:\n{printed}")


def main() -> None:
    """Build, install and try."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to try it with")
    options = parser.parse_args()
    # It would have the trial import a checkout.
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="curation-wheel-") as name:
        folder = Path(name)
        wheel = options.wheel or build(folder)
        binaries = install(wheel, folder, options.python)
        forget_java(folder / "programs")
        try_it(binaries, wheel, folder)


if __name__ == "__main__":
    main()
