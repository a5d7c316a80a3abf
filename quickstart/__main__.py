"""`python -m quickstart build OUT` and `python -m quickstart serve OUT -- COMMAND ARGS…`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from curation.terminal import visible

from .build import build
from .commands import ERRORS, default_port, serve


def main(arguments: list[str]) -> int:
    """Build or serve the mini-web; return the exit status, that of COMMAND if there is one."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = _parser().parse_args(arguments[:end]), arguments[end + 1 :]
    try:
        if options.action == "build":
            build(options.out, options.port or default_port(), options.seed)
            print(f"The mini-web is ready in {options.out}")
            return 0
        return serve(options.out, options.port, command)
    except ERRORS as error:
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
