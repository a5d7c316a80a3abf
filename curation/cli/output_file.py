"""Files that commands write: their folder is checked before the work. Tables are written whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from curation.errors import Detail, RecipeError


def in_a_folder(parameter: typer.CallbackParam, path: Any) -> Any:
    """Return the path of a file to write: the callback of its option.

    Raises:
        RecipeError: see `check_folder`.
    """
    if path is not None:
        check_folder(path, parameter.opts[0])
    return path


def check_folder(path: str | Path, option: str) -> None:
    """Check that the folder of a file to write is there, and that the file is no folder itself.

    Raises:
        RecipeError: one of both does not hold.
    """
    message = ""
    if Path(path).is_dir():
        message = f"{str(path)!r} is a folder"
    elif not Path(path).absolute().parent.is_dir():
        message = f"there is no folder {str(Path(path).parent)!r}"
    if message:
        fix = "Name a file in a folder that exists"
        raise RecipeError(Detail(message, option, str(path), fix=fix))


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Yield a path beside a file to write, which gets its place if the block ends without an error."""
    part = f"{path}.part-{os.getpid()}"
    try:
        yield part
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
