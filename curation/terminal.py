"""What commands print: text of strangers (captions, names, URLs) never acts on the terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from curation.secrets import conceal

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

MAX_READ = 2**16
"""Characters of a text of which the start is shown that are looked at for secrets."""
# Control characters (C0, C1), lone surrogates, and characters that reorder, hide or break a line: what
# Unicode has shown as nothing (Default_Ignorable_Code_Point), but for the joiners U+200C and U+200D and
# the selectors of variants, which emoji and some scripts need.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""Return a text that can be printed: what would act on the terminal is escaped, secrets are `***`.

    Line breaks and tabs stay.

        >>> visible("\x1b[2J \u202e")
        '\\x1b[2J \\u202e'
    """
    shown = conceal(text)
    return _ACTING.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), shown)


def one_line(text: str) -> str:
    """Return a text that can be printed in one line, so that it cannot pass for another line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def start_of(text: str, limit: int) -> str:
    """Return the start of a text that can be printed in one line of at most `limit` characters.

    Secrets are concealed before it is cut: a part of a password would not be recognised as one.
    """
    line = one_line(text[:MAX_READ])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return a text for `Terminal.print`; a part may be a pair of a text and its style."""
    shown = (visible(p) if isinstance(p, str) else (visible(p[0]), p[1]) for p in parts)
    return Text.assemble(*shown)


class Terminal(Console):
    """A console that prints every string literally: no tags, no emoji codes, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string, or a cell or title of a table, as it is printed."""
        return super().render_str(visible(text), **options)

    def print_json(self, json: str | None = None, **options: Any) -> None:
        """Print JSON, given as text, in ASCII: programs read back what is escaped."""
        if json is None:
            raise TypeError("print_json takes JSON as text")
        self.print(Text(ascii_json(json, indent=2)), soft_wrap=True)


def ascii_json(content: str, indent: int | None = None) -> str:
    """Return JSON without characters that act on a terminal, and without secrets."""
    return json.dumps(_concealed(json.loads(content)), indent=indent).replace("\x7f", "\\u007f")


def _concealed(value: Any) -> Any:
    """Return a value of JSON without secrets."""
    if isinstance(value, str):
        return conceal(value)
    if isinstance(value, dict):
        return {conceal(key): _concealed(item) for key, item in value.items()}
    return [_concealed(item) for item in value] if isinstance(value, list) else value


def echo(text: str) -> None:
    """Print a line to standard output: as it is for programs, and escaped on a terminal."""
    # Past the stream that escapes: programs open the paths that they read here.
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    stream.write((one_line(text) if sys.stdout.isatty() else conceal(text)) + "\n")
