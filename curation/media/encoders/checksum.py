"""Which weights file a recipe trusts: the one with the SHA-256 that it names.

Without torch, since a run checks its files before anything else.
"""

from __future__ import annotations

from pathlib import Path

from curation.engine.digest import file_sha256
from curation.errors import RecipeError


def checked_sha256(path: str, expected: str | None, required: bool = False) -> str:
    """Return the SHA-256 of a weights file (hex), of which nothing is parsed.

    Args:
        path: the file.
        expected: 64 lower-case hex digits that the sum must be, or None for any.
        required: refuse a file whose sum is not given, since it is a program.

    Raises:
        RecipeError: no such file, no sum where one is required, or another sum than expected.
    """
    if not Path(path).is_file():
        raise RecipeError(f"No weights file {path!r}. Put the file there or mend `weights`.")
    found = file_sha256(path)
    if expected is None and required:
        raise RecipeError(
            f"The weights {path!r} are a program, which runs with your rights, and the recipe gives "
            f"no sha256 for it. If the file is from where you trust it to be, and its sum is the one "
            f"told there, add sha256: {found}"
        )
    if expected not in (None, found):
        raise RecipeError(
            f"The weights {path!r} are not the file that the recipe trusts: expected sha256 "
            f"{expected}, found {found}. Fetch the file again, or mend `sha256` after you have "
            "checked where the file is from."
        )
    return found
