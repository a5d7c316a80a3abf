"""Finds the folder of the pictures that a list names, which `root` of a source says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curation.errors import RecipeError
from curation.media.files.location import as_spelled, shown
from curation.stages.ingest.recognise.place import Place, place_of

NAMES = 100
"""Pictures of a list that are looked for."""


def fields_of_root(place: Place, named: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what a source says of the folder of its pictures, and what a reader should know of it.

    Args:
        place: of the list.
        named: the paths of some pictures, as the list has them; at least one.
    """
    # As Windows writes them.
    named = [name if "/" in name else name.replace("\\", "/") for name in named]
    root = _root(place, named[:NAMES])
    if root is None:
        note = (
            f"The pictures, such as {shown(named[0])}, are not there: set `root` to their folder."
        )
        return {}, (note,)
    if not root or root == place.folder:
        return {}, ()
    shown_root = root if Path(place.path).is_absolute() else os.path.relpath(root)
    return {"root": shown_root}, (f"Pictures outside of {shown(shown_root)} are not read.",)


def _root(place: Place, named: Sequence[str]) -> str | None:
    """Return the folder of the pictures; empty if it is that of the source, None if it is unknown."""
    folder = place.folder
    if folder is None:
        return ""
    if all(Path(name).is_absolute() for name in named):
        return _of_absolute(folder, named)
    best, most = None, 0
    for root in _candidates(folder, named[0]):
        existing = sum(_is_below(root, name) for name in named)
        if existing > most:
            best, most = root, existing
        if existing == len(named):
            break
    return best


def _of_absolute(folder: str, named: Sequence[str]) -> str | None:
    if not any(_is_file(Path(name)) for name in named):
        return None
    root = os.path.commonpath([str(Path(name).parent) for name in named])
    return folder if os.path.commonpath([folder, root]) == folder else root


def _candidates(folder: str, name: str) -> Iterator[str]:
    """Yield folders in which a picture may be: those around the list, and those with such a file."""
    around = [folder, str(Path(folder).parent)]
    yield from around
    for place in around:
        try:
            files = place_of(place).files
        except RecipeError:
            continue
        for file in files:
            if file.name.endswith(f"/{name}"):
                yield str(Path(place, file.name.removesuffix(f"/{name}")))


def _is_below(root: str, name: str) -> bool:
    """Whether a folder has a picture, without a way out of it."""
    if os.path.normpath(name).startswith(".."):
        return False
    return _is_file(Path(root, as_spelled(root, name)))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A list may hold names that no file system accepts.
        return False
