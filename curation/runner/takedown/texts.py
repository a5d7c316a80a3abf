"""Finds in a text what was taken down: URLs and ids."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from curation.runner.takedown.file_search import is_gone_url
from curation.store.tombstones import Takedowns

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

MAX_URL = 8192
"""Characters of a URL that are looked at."""
MAX_WITHIN = 4
"""URLs within a URL up to which its end is looked for. Beyond them, a text is a list of URLs."""
_URL = re.compile(rf"(?=(https?://[^\s\"<>]{{1,{MAX_URL}}}))", re.IGNORECASE)
"""Also one that stands within another one, or right behind it."""
_MARK = re.compile(r"[^A-Za-z0-9/_~%+=@-]+")
"""What may be a part of a URL, or end it: in a sentence, a list, or the source of a program."""
_ID = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9A-Fa-f])")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_BLANKS = dict.fromkeys("bfnrtv", "\n")
"""What ends a URL."""


def mentions(text: str, takedowns: Takedowns) -> list[str]:
    """Return the URLs and ids in a text that were taken down.

    A text may be JSON, HTML or a program, so URLs are also looked for without the escapes of these.
    """
    forms = dict.fromkeys((text, html.unescape(text), _without_escapes(text)))
    written = dict.fromkeys(url for form in forms for url in _URL.findall(form))
    gone = {url for whole in written if (url := _gone(whole, takedowns)) is not None}
    ids = {each for form in forms for each in _ID.findall(form)}
    return sorted(gone | {i for i in ids if takedowns.has("pair", i) or takedowns.has_image(i)})


def _gone(text: str, takedowns: Takedowns) -> str | None:
    """Return the longest beginning of a text that is a URL that was taken down, if there is one."""
    return next((url for url in _beginnings(text) if is_gone_url(url, takedowns)), None)


def _beginnings(text: str) -> Iterator[str]:
    """Yield a text that begins with a URL, and what stands before each mark that may end the URL."""
    yield text
    first, *others = text.split("://", MAX_WITHIN + 2)
    near = "://".join([first, *others[: MAX_WITHIN + 1]])
    for mark in reversed([*_MARK.finditer(near, len(first) + len("://"))]):
        for end in range(mark.end() - 1, mark.start() - 1, -1):
            yield near[:end]


def _without_escapes(text: str) -> str:
    """Return a text without the escapes of strings in JSON and Python."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_unescaped, text)
    # JSON writes a character beyond 16 bits as two escapes.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _BLANKS.get(escape[3], escape[3])
