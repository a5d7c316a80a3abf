"""Checks that the weights of a model are those that a recipe trusts, by their SHA-256.

This does not import torch, since a run checks its files before anything else.
"""

from __future__ import annotations

from pathlib import Path

from curation.errors import RecipeError
from curation.store.digest import file_sha256


def checked_sha256(path: str, expected: str | None, required: bool = False) -> str:
    """Return the SHA-256 of weights (hexadecimal). Nothing is parsed.

    Args:
        path: a file; or a folder, whose checksum covers the names and contents of all its files.
        expected: the SHA-256 that it must have, 64 lower-case hexadecimal digits; None for any.
        required: whether `expected` must be given, since the file is a program.

    Raises:
        RecipeError: there is no such file, it has another SHA-256, or has no expected one.
    """
    if not (Path(path).is_file() or Path(path).is_dir()):
        raise RecipeError(
            f"No weights file {path!r}",
            fix="Put the file there, or correct `weights`",
        )
    return compare_sha256(path, file_sha256(path), expected, required)


def compare_sha256(path: str, sha256: str, expected: str | None, required: bool = False) -> str:
    """Return the SHA-256 of weights; see `checked_sha256`."""
    if expected is None and required:
        raise RecipeError(
            f"The weights {path!r} are a program, which runs with your permissions, and the recipe "
            "has no sha256 for it",
            fix=(
                "If you trust the source of the file, and it publishes this checksum, add sha256: "
                f"{sha256}"
            ),
        )
    if expected not in (None, sha256):
        folder = " (of a folder: of all its files)" if Path(path).is_dir() else ""
        raise RecipeError(
            f"The weights {path!r} are not the file that the recipe trusts: expected sha256 "
            f"{expected}, found {sha256}{folder}",
            fix=(
                "Download the file again, or correct `sha256` after you have checked the source "
                "of the file"
            ),
        )
    return sha256
