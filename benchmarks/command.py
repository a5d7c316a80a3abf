"""The common command line of benchmarks: `--tiny`, folders, real images, optional peers."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the docstring of a benchmark, with the option `--tiny`."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="small sizes: shows in seconds that the benchmark runs; its figures mean nothing",
    )
    return parser


def parse(
    parser: argparse.ArgumentParser, tiny: Mapping[str, Any] | None = None
) -> argparse.Namespace:
    """Return the options of the command line.

    Args:
        parser: made by `parser_of`.
        tiny: the defaults that `--tiny` sets.
    """
    if "--tiny" in sys.argv[1:]:
        parser.set_defaults(**tiny or {})
    return parser.parse_args()


@contextmanager
def folder_or_temporary(folder: Path | None) -> Iterator[Path]:
    """Yield the folder, or a temporary folder if it is None; remove the temporary one at the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="curation-benchmark-") as name:
        yield Path(name)


def shared_folder(options: argparse.Namespace) -> Path:
    """Return the folder with real images and hidden truth.

    It is `--shared`, else the folder named by CURATION_SHARED, else a folder `shared` beside the
    checkout. If it does not exist, the benchmark ends; a tiny run ends with success, so that the tiny
    runs of other benchmarks follow.
    """
    folder = Path(options.shared or os.environ.get("CURATION_SHARED", ROOT.parent / "shared"))
    if not (folder / "data" / "web_mini").is_dir():
        reason = f"no shared data at {folder}: name the folder by --shared or CURATION_SHARED"
        if options.tiny:
            print(f"skipped: {reason}")
            raise SystemExit(0)
        raise SystemExit(reason)
    return folder


def has_peer(options: argparse.Namespace, module: str, install: str) -> bool:
    """Return whether a peer is installed that is not in the environment of the project.

    Args:
        options: without `--tiny`, the benchmark ends if the peer is not installed.
        module: the module of the peer.
        install: the command that installs the peer.
    """
    if find_spec(module) is not None:
        return True
    message = f"{module} is not installed. To compare with it: {install}"
    if not options.tiny:
        raise SystemExit(message)
    print(f"{message}\n{module} is left out.")
    return False
