"""Files that commands write: their folder is checked before the work. Tables are written whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

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


ENDINGS = (
    *(".csv", ".tsv", ".json", ".jsonl", ".txt", ".html", ".htm", ".xlsx", ".arrow", ".feather"),
    *(".parquet", ".yaml", ".yml", ".toml", ".safetensors"),
)
"""Endings of files that programs read as one format."""


def as_parquet(parameter: typer.CallbackParam, path: Any) -> Any:
    """Return the path of a Parquet file to write: the callback of its option.

    Raises:
        RecipeError: see `check_folder`; the name is that of another format; or a pipe or a device is
            there, whose place `whole_file` would give to the table.
    """
    fix = "Give it the ending .parquet. --json prints JSON"
    named = _as_format(parameter, path, "Parquet", (".parquet",), fix)
    if named is not None and Path(named).exists() and not Path(named).is_file():
        message = f"{str(named)!r} is a pipe or a device, and a table is written as a file"
        fix = "Name a file. --json prints rows to standard output"
        raise RecipeError(Detail(message, parameter.opts[0], str(named), fix=fix))
    return named


def as_yaml(parameter: typer.CallbackParam, path: Any) -> Any:
    """Return the path of a YAML file to write: the callback of its option.

    Raises:
        RecipeError: see `check_folder`; or the name is that of another format.
    """
    return _as_format(parameter, path, "YAML", (".yaml", ".yml"), "Give it the ending .yaml")


def as_html(parameter: typer.CallbackParam, path: Any) -> Any:
    """Return the path of a web page to write: the callback of its option.

    Raises:
        RecipeError: see `check_folder`; or the name is that of another format.
    """
    return _as_format(parameter, path, "HTML", (".html", ".htm"), "Give it the ending .html")


def _as_format(
    parameter: typer.CallbackParam, path: Any, name: str, endings: tuple[str, ...], fix: str
) -> Any:
    others = tuple(ending for ending in ENDINGS if ending not in endings)
    if path is not None and str(path).lower().endswith(others):
        message = f"the file will be {name}, and {str(path)!r} is the name of another format"
        raise RecipeError(Detail(message, parameter.opts[0], str(path), fix=fix))
    return in_a_folder(parameter, path)


def as_safetensors(parameter: typer.CallbackParam, path: Path) -> Any:
    """Return the path of a file of weights to write: the callback of its option.

    Raises:
        RecipeError: see `check_folder`; or a recipe would not load a file of this name.
    """
    in_a_folder(parameter, path)
    if path.suffix != ".safetensors":
        message = "recipes load a head from a file with the ending .safetensors alone"
        fix = f"Write {str(path.with_suffix('.safetensors'))!r}" if path.name else ""
        raise RecipeError(Detail(message, parameter.opts[0], str(path), fix=fix))
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
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Yield a new file, which becomes the one of a path if the block ends without an error.

    A link stays a link: the file that it leads to is the one that changes.
    """
    place = Path(path).resolve()
    part = place.with_name(f"{place.name}.part-{os.getpid()}")
    try:
        # Opened here: pyarrow takes a name with a colon for an address, and none that is not UTF-8.
        with part.open("wb") as file:
            yield file
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
