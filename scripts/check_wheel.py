"""Builds the wheel, installs it into a fresh environment, and tries it there.

    python scripts/check_wheel.py [--wheel dist/curation-….whl] [--python python3.12]

It needs uv, which the project's environment has. Dependencies have the versions of `constraints.txt`.
The trial: the version, the contracts and weights that the wheel ships, the marker of typed packages,
and the plan of every shipped recipe that needs no data of its own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPES = {"lvd142m": "142,109,386", "lvd1689m": "total"}
"""Shipped recipes, and a part of what `curation plan` prints for each."""
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


def uv() -> str:
    """Return uv: of this environment, else of PATH."""
    beside = Path(sys.executable).parent / "uv"
    place = str(beside) if beside.exists() else shutil.which("uv")
    if place is None:
        raise SystemExit("uv is not installed: pip install uv")
    return place


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in a folder; return what it prints, or end with it where it fails."""
    line = [str(part) for part in command]
    done = subprocess.run(
        line,
        cwd=folder,
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
    pins = ROOT / "constraints.txt"
    target = f"curation[cpu] @ {wheel.resolve().as_uri()}"
    run(uv(), "pip", "install", "--python", interpreter, "-c", pins, target, folder=folder)
    return interpreter.parent


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
        if expected not in printed:
            raise SystemExit(f"the plan of {name} has no {expected!r}:\n{printed}")
    print(f"{wheel.name} works: version {version}, plans of {', '.join(RECIPES)}")


def main() -> None:
    """Build, install and try."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to try it with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curation-wheel-") as name:
        folder = Path(name)
        wheel = options.wheel or build(folder)
        try_it(install(wheel, folder, options.python), wheel, folder)


if __name__ == "__main__":
    main()
