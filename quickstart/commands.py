"""What the command lines do: serve the mini-web, and curate it in a folder of the user's."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .build import build, read_stamp
from .server import CannotServe, check_port, serving

DEFAULT_PORT = 8765
PORT = "QUICKSTART_PORT"
"""The variable that names another port."""
WEB, STORE = Path("data", "quickstart"), Path("data", "store")
"""Where the recipe of the quickstart looks for the mini-web, and where its store is."""
RECIPE, SCHEMA = "quickstart.yaml", "recipe.schema.json"
ERRORS = (CannotServe, FileExistsError, FileNotFoundError, ValueError)
"""What a user can mend."""


def default_port() -> int:
    """Return the port that QUICKSTART_PORT names, or else 8765.

    Raises:
        ValueError: it names no port.
    """
    named = os.environ.get(PORT) or str(DEFAULT_PORT)
    if not (named.isdecimal() and 0 < int(named) < 2**16):
        raise ValueError(f"{PORT} is {named!r}, and a port is a number from 1 to 65535")
    return int(named)


def curate(folder: Path, port: int | None, shipped: Path, options: Sequence[str] = ()) -> int:
    """Build the mini-web in a folder, and run the recipe of the quickstart on it there.

    Args:
        folder: gets the recipe with its schema, the mini-web and the store.
        port: of the mini-web; None for that of one that is there, or else the default.
        shipped: the recipe of the quickstart; a recipe that is in the folder already stays.
        options: of `curation`.

    Returns:
        The exit status of `curation run`.

    Raises:
        CannotServe, FileExistsError, ValueError: the mini-web cannot be built or served.
    """
    folder = folder.absolute()
    port = port or _port_of(folder / WEB)
    # For another port the mini-web is built anew, in place of one that works.
    check_port(port)
    build(folder / WEB, port)
    recipe, text = folder / RECIPE, _with_schema_beside(shipped)
    if not recipe.exists():
        recipe.write_text(text, encoding="utf-8")
        shutil.copyfile(shipped.parent.parent / SCHEMA, folder / SCHEMA)
    elif recipe.read_bytes() != text.encode():
        print(f"{recipe} is not the shipped recipe any more, and is run as it is", file=sys.stderr)
    # Nothing in the folder of a user is imported by chance.
    program = [sys.executable, "-P", "-m", "curation.cli", *options]
    return serve(folder / WEB, None, [*program, "run", RECIPE, "--store", str(STORE)], folder)


def _with_schema_beside(shipped: Path) -> str:
    """Return the text of a shipped recipe; its first line leads editors to the schema beside it."""
    return shipped.read_text(encoding="utf-8").replace(
        f"$schema=../{SCHEMA}", f"$schema={SCHEMA}", 1
    )


def _port_of(web: Path) -> int:
    """Return the port that the environment names, or else that of a mini-web that is there already.

    Its lists link to this port: for another one it would be made, fetched and curated again.
    """
    built_for = read_stamp(web).get("port")
    return default_port() if PORT in os.environ or built_for is None else int(str(built_for))


def again(folder: Path) -> str:
    """Return the shell command that runs the recipe in the folder of `curate` once more."""
    return f"cd {shlex.quote(str(folder))} && curation run {RECIPE} --store {STORE}"


def serve(out: Path, port: int | None, command: Sequence[str], folder: Path | None = None) -> int:
    """Serve the mini-web in `out` while a command runs, or without one until Ctrl-C.

    Args:
        out: folder of the mini-web.
        port: that it must have been built for, if not None.
        command: to run; may be empty.
        folder: that the command runs in; None for the working folder.

    Returns:
        The exit status of the command.

    Raises:
        FileNotFoundError: there is no mini-web.
        ValueError: it was built for another port.
        CannotServe: the port is used, or the machine lacks a loopback address.
    """
    stamp = read_stamp(out)
    if not stamp.get("complete"):
        raise FileNotFoundError(f"no mini-web in {out}; build it: python -m quickstart build {out}")
    built_for = int(str(stamp["port"]))
    if port not in (None, built_for):
        raise ValueError(
            f"the mini-web in {out} links to port {built_for}, not {port}; build it again: "
            f"python -m quickstart build {out} --port {port}"
        )
    with serving(out, built_for) as server:
        if command:
            return _run(command, folder)
        print(f"Serving {server.www} at {server.url('')}; stop with Ctrl-C", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


def _run(command: Sequence[str], folder: Path | None) -> int:
    """Run the command; SIGTERM ends it too."""
    process = subprocess.Popen(command, cwd=folder)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # The terminal sends Ctrl-C to the command too, which decides when to end.
            continue
        return status if status >= 0 else 128 - status
