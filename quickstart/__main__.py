"""`python -m quickstart build OUT` and `python -m quickstart serve OUT -- COMMAND ARGS…`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from curation.terminal import visible
from quickstart.build import build, read_stamp
from quickstart.server import CannotServe, serving

DEFAULT_PORT = 8765


def main(arguments: list[str]) -> int:
    """Build or serve the mini-web; return the exit status, that of COMMAND if there is one."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = _parser().parse_args(arguments[:end]), arguments[end + 1 :]
    try:
        if options.action == "build":
            build(options.out, options.port or _default_port(), options.seed)
            print(f"The mini-web is ready in {options.out}")
            return 0
        return _serve(options.out, options.port, command)
    except (CannotServe, FileExistsError, FileNotFoundError, ValueError) as error:
        print(visible(f"quickstart: {error}"), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quickstart", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in {"build": "write the mini-web", "serve": "serve it and run COMMAND"}.items():
        action = actions.add_parser(name, help=text)
        action.add_argument("out", type=Path, help="folder of the mini-web")
        action.add_argument("--port", type=int, help="default: QUICKSTART_PORT or 8765")
        if name == "build":
            action.add_argument("--seed", type=int, default=0)
    return parser


def _default_port() -> int:
    return int(os.environ.get("QUICKSTART_PORT", DEFAULT_PORT))


def _serve(out: Path, port: int | None, command: list[str]) -> int:
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
            return _run(command)
        print(f"Serving {server.www} at {server.url('')}; stop with Ctrl-C", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


def _run(command: list[str]) -> int:
    """Run the command; SIGTERM ends it too."""
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # The terminal sends Ctrl-C to the command too, which decides when to end.
            continue
        return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
