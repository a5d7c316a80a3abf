"""What commands print: text of strangers (captions, names, URLs) never acts on the terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from curation.secrets import conceal

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

UNBOUNDED_WIDTH = 100_000
_FIVE_DIGITS = 10_000
"""From here on, four digits would need a power of ten."""
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


def number_beside(value: float, bounds: Sequence[float] = ()) -> str:
    """Return a number in four digits; in all, if four would lie otherwise to one of some bounds.

    >>> number_beside(3.0001), number_beside(3.0001, [3.0])
    ('3', '3.0001')
    """
    short = f"{value:.4g}" if abs(value) < _FIVE_DIGITS else f"{value:.0f}"
    shown = float(short)
    is_moved = any((shown < b, shown > b) != (value < b, value > b) for b in bounds)
    return repr(value) if is_moved else short


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

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects. A table alone in which words would be cut gets no lines, or a value a line."""
        if len(objects) == 1 and isinstance(objects[0], Table):
            (table,) = objects
            if not self._made_to_fit(table):
                self._print_values(table)
                return
        super().print(*objects, **options)

    def _made_to_fit(self, table: Table) -> bool:
        """Take lines and spaces out of a table that is too wide; return whether its words fit then."""
        widths = [_widths(column) for column in table.columns]
        for column, (least, _) in zip(table.columns, widths, strict=True):
            column.min_width = least
        for spaces in (1, 0):
            if self._space_beside(table) < 0:
                table.box, table.padding = SIMPLE_HEAD, (0, spaces, 0, 0)
                table.collapse_padding = True
        left, wanted = self._space_beside(table), sum(most - least for least, most in widths)
        if 0 <= left < wanted:
            # The table itself would take what is missing from the widest columns, and cut words.
            for column, (least, most) in zip(table.columns, widths, strict=True):
                column.width = least + left * (most - least) // wanted
        return left >= 0

    def _space_beside(self, table: Table) -> int:
        """Return the characters that are left where each column is as wide as its longest word."""
        unbounded = self.options.update_width(UNBOUNDED_WIDTH)
        return self.width - Measurement.get(self, unbounded, table).minimum

    def _print_values(self, table: Table) -> None:
        names = [" ".join(str(column.header).split()) for column in table.columns]
        if table.title is not None:
            super().print(table.title, style="italic")
        if not table.rows:
            super().print(", ".join(names))
        width = max(map(len, names), default=0)
        for number, cells in enumerate(zip(*(c.cells for c in table.columns), strict=True)):
            super().print(Text(f"row {number}", "dim"))
            for name, cell in zip(names, cells, strict=True):
                value = cell if isinstance(cell, Text) else self.render_str(str(cell))
                if value.plain:
                    super().print(Text.assemble("  ", visible(f"{name:<{width}}"), "  ", value))
        if table.caption is not None:
            super().print(table.caption, style="dim italic")

    def print_json(self, json: str | None = None, **options: Any) -> None:
        """Print JSON, given as text, in ASCII: programs read back what is escaped."""
        if json is None:
            raise TypeError("print_json takes JSON as text")
        self.print(Text(ascii_json(json, indent=2)), soft_wrap=True)


def _widths(column: Column) -> tuple[int, int]:
    """Return the widths of the longest word and of the longest line of a column, in characters."""
    texts = [visible(str(cell)) for cell in (column.header, *column.cells)]
    line = max((cell_len(line) for text in texts for line in text.splitlines()), default=0)
    word = max((cell_len(word) for text in texts for word in text.split()), default=0)
    return line if column.no_wrap else word, line


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
