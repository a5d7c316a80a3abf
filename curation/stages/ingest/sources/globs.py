"""Globs: the folder that files are listed in, and the pattern of their names."""

from __future__ import annotations

import re
from collections.abc import Callable

_WILDCARD = re.compile(r"[*?\[]")


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
    return "/".join(parts[:first]) or "/", re.compile(expression)


def _segment_pattern(part: str) -> str:
    """Return the regular expression of one segment of a glob."""
    pattern, i = "", 0
    while i < len(part):
        char = part[i]
        end = part.find("]", i + 2) if char == "[" else -1
        if end > 0:
            inner = part[i + 1 : end].replace("\\", "\\\\")
            pattern += "[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]"
            i = end
        else:
            pattern += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
        i += 1
    return pattern
