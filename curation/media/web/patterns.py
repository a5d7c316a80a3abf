"""Regular expressions of a recipe, searched in text of strangers.

Python's `re` tries all ways to match, of which a short text may have more than can be tried. RE2, which
pyarrow has, takes time that is linear in the text, so it decides; it has no look-around and no
back-references.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any


def check_patterns(patterns: Sequence[str]) -> None:
    """Check that Python and RE2 read regular expressions.

    Raises:
        ValueError: one of them does not; the message is for people.
    """
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    if find_spec("pyarrow") is None:
        # Airflow reads recipes without it. The tasks of the run read them again.
        return
    import pyarrow as pa

    for pattern in patterns:
        try:
            is_found((pattern,), "")
        except pa.ArrowInvalid as error:
            problem = str(error).splitlines()[0].removeprefix("Invalid regular expression: ")
            raise ValueError(
                f"{pattern!r} cannot be matched in bounded time ({problem}). Valid: the syntax of RE2, "
                "which has no look-around and no back-references"
            ) from error


def is_found(patterns: tuple[str, ...], *texts: str) -> bool:
    """Whether one of the regular expressions is found in one of the texts.

    Args:
        patterns: regular expressions that `check_patterns` accepts.
        texts: of strangers; what is not valid Unicode counts as `?`.
    """
    if not patterns:
        return False
    import pyarrow as pa
    import pyarrow.compute as pc

    distinct = [text.encode(errors="replace") for text in dict.fromkeys(texts)]
    values = pa.array(distinct, pa.string())
    matches = pc.call_function("match_substring_regex", [values], _options(patterns))
    return True in matches.to_pylist()


@lru_cache(maxsize=16)
def _options(patterns: tuple[str, ...]) -> Any:
    import pyarrow.compute as pc

    # Flags within a group hold for the group alone.
    return pc.MatchSubstringOptions("|".join(f"(?:{pattern})" for pattern in patterns))
