"""Globs: the folder that files are listed in, and the pattern of their names."""

from __future__ import annotations

import re
from collections.abc import Callable

_WILDCARD = re.compile(r"[*?\[]")
_RANGE = re.compile("(.)-(.)|(.)", re.DOTALL)
_SEGMENT_START = r"(?:^|/|\)\*)"
"""Where a segment begins in an expression of `split_glob`."""


def split_glob(
    path: str, is_folder: Callable[[str], bool] = lambda path: False
) -> tuple[str, re.Pattern[str] | None]:
    """Return the folder before the first wildcard, and a pattern for the names below it.

    Args:
        path: absolute path or URI.
        is_folder: whether a path is a folder. The name of a folder has no wildcards, whatever it is.
    """
    parts = path.split("/")
    wild = (i for i, part in enumerate(parts) if _WILDCARD.search(part))
    first = next((i for i in wild if not is_folder("/".join(parts[: i + 1]))), None)
    if first is None:
        return path, None
    expression = ""
    for i, part in enumerate(parts[first:]):
        is_last = first + i == len(parts) - 1
        if part == "**":
            expression += ".*" if is_last else "(?:[^/]+/)*"
        else:
            expression += _segment_pattern(part) + ("" if is_last else "/")
    return "/".join(parts[:first]) or "/", re.compile(expression, re.DOTALL)


def spells_out(pattern: re.Pattern[str], start: str) -> bool:
    """Whether a segment of a glob begins with a text, and with no wildcard for it.

    Args:
        pattern: of the glob, from `split_glob`.
        start: the text.
    """
    return re.search(_SEGMENT_START + re.escape(re.escape(start)), pattern.pattern) is not None


def _segment_pattern(part: str) -> str:
    """Return the regular expression of one segment of a glob."""
    pattern, i = "", 0
    while i < len(part):
        char = part[i]
        # `]` is a character of the set if it is the first one.
        first = i + 2 if part[i + 1 : i + 2] in ("!", "^") else i + 1
        end = part.find("]", first + 1) if char == "[" else -1
        if end > 0:
            pattern += _set_pattern(part[first:end], is_negated=first == i + 2)
            i = end
        else:
            pattern += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
        i += 1
    return pattern


def _set_pattern(characters: str, is_negated: bool) -> str:
    """Return the regular expression of a set such as `[a-z]`, which never matches a slash."""
    items = ""
    for low, high, single in _RANGE.findall(characters):
        if single:
            items += re.escape(single)
        elif low <= high:
            items += f"{re.escape(low)}-{re.escape(high)}"
    if not items:
        # A range from its end to its start holds nothing.
        return "[^/]" if is_negated else "(?!)"
    return f"(?!/)[{'^' if is_negated else ''}{items}]"
