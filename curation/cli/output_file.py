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
        RecipeError: its folder is not there.
    """
    if path is not None and not Path(path).absolute().parent.is_dir():
        message = f"there is no folder {str(Path(path).parent)!r}"
        fix = "Name a file in a folder that exists"
        raise RecipeError(Detail(message, parameter.opts[0], str(path), fix=fix))
    return path


@contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Yield a path beside a file to write, which gets its place if the block ends without an error."""
    part = f"{path}.part-{os.getpid()}"
    try:
        yield part
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
