r"""The ways in which fields with quotes are written, and how a file shows which of them it uses.

- `doubled`, RFC 4180: `"a ""b"" c"`. pandas, Excel, DuckDB, Polars, PostgreSQL, Python.
- `backslash`: `"a \"b\" c"`. Spark, MySQL, R's write.table.
- `none`: a quote is a character like others, and a line is a row. Lists of web images.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from curation.media.files.limits import FIELD_CHARACTERS, RECORD_CHARACTERS, REREAD_RATIO

_HINT = " (if backslashes escape quotes, set `quoting: backslash`; if quotes are characters, none)"
_LONE_RETURN = "new-line character seen in unquoted field"
_RETURN = "a carriage return stands in a field without quotes: write the field in quotes"
_LOST = "it follows a row that cannot be read, and too many of the file were read again"
HEAD_CHARACTERS = 8 << 20
"""How much of a file decides how it is written."""
_LINE_CHARACTERS = 64
"""What a line counts for besides its text: a row may have millions of empty lines."""


class Line(NamedTuple):
    """A line with its end; one that is not complete was truncated."""

    number: int
    text: str
    is_complete: bool = True


class Record(NamedTuple):
    """The fields of one row, or why it cannot be read."""

    line: Line
    fields: list[str]
    problem: str = ""


class Lines:
    """Lines that can be given back: of a row that cannot be read only the first line is lost.

    How much is read again is limited, since rows of many lines may fail one after another.

    Attributes:
        taken: the lines of the row that is being read.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._returned: deque[Line] = deque()
        self.taken: list[Line] = []
        self._size, self._again = 0, HEAD_CHARACTERS

    def begin(self) -> None:
        """Begin a row."""
        self.taken, self._size = [], 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._returned:
            line = self._returned.popleft()
            self._again -= len(line.text)
        else:
            line = next(self._lines)
            self._again += REREAD_RATIO * len(line.text)
        self._size += len(line.text) + _LINE_CHARACTERS
        self.taken.append(line)
        if self._size > RECORD_CHARACTERS and len(self.taken) > 1:
            raise csv.Error(f"a row has more than {RECORD_CHARACTERS:,} characters")
        # A truncated line gets longer than a field may be.
        return line.text if line.is_complete else line.text + "x" * (FIELD_CHARACTERS + 1)

    def give_back(self) -> list[Line]:
        """Give back all lines that were taken but the first; return those that are not read again."""
        others = self.taken[1:]
        if self._again < 0:
            return others
        self._returned.extendleft(reversed(others))
        return []


def doubled(lines: Lines, delimiter: str) -> Iterator[Record]:
    """Yield the records of a file after RFC 4180."""
    csv.field_size_limit(FIELD_CHARACTERS)
    while True:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        lines.begin()
        try:
            for fields in reader:
                yield Record(lines.taken[0], fields)
                lines.begin()
            return
        except csv.Error as error:
            # Python would advise to open the file in another way.
            is_return = str(error).startswith(_LONE_RETURN)
            yield from _failed(lines, _RETURN if is_return else f"{error}{_HINT}")


def _failed(lines: Lines, problem: str) -> Iterator[Record]:
    first = lines.taken[0]
    lost = lines.give_back()
    yield Record(first, [], problem)
    yield from (Record(line, [], _LOST) for line in lost)


def plain(lines: Lines, delimiter: str) -> Iterator[Record]:
    """Yield the records of a file in which quotes are characters like others."""
    for text in lines:
        line = lines.taken[0]
        lines.begin()
        # A program may have turned each line end into one of Windows twice.
        fields = text.rstrip("\r\n").split(delimiter)
        is_too_large = len(text) > FIELD_CHARACTERS and max(map(len, fields)) > FIELD_CHARACTERS
        problem = f"a field has more than {FIELD_CHARACTERS:,} characters" if is_too_large else ""
        yield Record(line, [] if problem or fields == [""] else fields, problem)


@lru_cache
def _field(delimiter: str) -> re.Pattern[str]:
    other = f'[^{delimiter}"\\\\]'
    return re.compile(
        rf'(?:"((?:[^"\\]|\\.)*)"|((?:{other}|\\"|\\)*))(?={delimiter}|\Z)', re.DOTALL
    )


def backslash(lines: Lines, delimiter: str) -> Iterator[Record]:
    """Yield the records of a file in which a backslash within quotes makes a quote a character."""
    while True:
        lines.begin()
        try:
            text = _to_closed_quote(lines)
        except csv.Error as error:
            yield from _failed(lines, str(error))
            continue
        if not text:
            return
        line, ended = lines.taken[0], text.rstrip("\r\n")
        fields = _split(ended, _field(delimiter)) if len(text) <= FIELD_CHARACTERS else None
        if fields is None:
            yield from _failed(lines, "a quote is not escaped by a backslash, or never closed")
        else:
            yield Record(line, [] if fields == [""] else fields)


def _to_closed_quote(lines: Lines) -> str:
    """Return the next lines until no quote is open, or more than a field may have."""
    line = next(lines, "")
    parts, size, is_open = [line], len(line), _is_odd(line)
    while is_open and size <= FIELD_CHARACTERS and (line := next(lines, "")):
        parts.append(line)
        size += len(line)
        # An escape never spans two lines.
        is_open ^= _is_odd(line)
    return "".join(parts)


def _is_odd(text: str) -> bool:
    """Whether a line has an odd number of quotes that no backslash escapes."""
    return '"' in text and re.sub(r"\\.", "", text, flags=re.DOTALL).count('"') % 2 == 1


def _split(text: str, pattern: re.Pattern[str]) -> list[str] | None:
    fields, at = [], 0
    while match := pattern.match(text, at):
        quoted, bare = match.groups()
        field = bare if quoted is None else quoted
        # Spark writes the backslashes of a field without quotes as they are.
        if quoted is not None or r"\"" in field:
            field = re.sub(r'\\(["\\])', r"\1", field)
        fields.append(field)
        if match.end() == len(text):
            return fields
        at = match.end() + 1
    return None


READERS: dict[str, Callable[[Lines, str], Iterator[Record]]] = {
    "doubled": doubled,
    "backslash": backslash,
    "none": plain,
}


def is_quoted(field: str) -> bool:
    """Whether a field that was read as it is written may be one in quotes."""
    return len(field) > 1 and field[0] == field[-1] == '"'


def detect(head: Sequence[Line], delimiter: str, header_quoted: bool = True) -> str:
    """Return how a file is written, from its first lines.

    It is the way in which the fewest rows cannot be read or have another number of fields than the
    first. If nothing tells, a CSV file is `doubled` and a TSV file `none`.

    Args:
        head: the first lines.
        delimiter: of the fields.
        header_quoted: whether a first line with all fields in quotes tells that fields are quoted.
    """
    if not any('"' in line.text for line in head):
        return "none" if delimiter == "\t" else "doubled"
    order = ["doubled", "backslash"]
    if delimiter == "\t":
        shows = _shows_doubled(head) or (header_quoted and _shows_quotes(head[0].text))
        order = [*order, "none"] if shows else ["none", *order]
    fewest, best = None, order[0]
    for name in order:
        bad = _bad_rows(READERS[name](Lines(head), delimiter))
        if fewest is None or bad < fewest:
            fewest, best = bad, name
        if not bad:
            break
    return best


def _bad_rows(records: Iterator[Record]) -> int:
    bad, width = 0, 0
    for record in records:
        width = width or len(record.fields)
        bad += bool(record.problem) or len(record.fields) not in (0, width)
    return bad


def _shows_doubled(head: Sequence[Line]) -> bool:
    pattern = re.compile(r'(?:^|\t)"[^"\t]*(?:""[^"\t]*)+"(?=\t|\r?\n?$)')
    return any(pattern.search(line.text) for line in head if '""' in line.text)


def _shows_quotes(line: str) -> bool:
    fields = line.rstrip("\r\n").split("\t")
    return all(map(is_quoted, fields))
