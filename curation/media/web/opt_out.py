"""Whether the headers of a response forbid the use of its image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from multidict import CIMultiDictProxy

from curation.media.web.robots import product_of

_KNOWN = frozenset(
    re.findall(
        r"[\w-]+",
        "all follow index archive noindex nofollow none noarchive nocache nosnippet notranslate "
        "noimageindex noai noimageai noodp noydir indexifembedded max-snippet max-image-preview "
        "max-video-preview unavailable_after",
    )
)
"""Directives of X-Robots-Tag. A name before a colon is that of a robot if one of them follows."""
_NONE = ("noindex", "nofollow")
_QUOTES = re.compile(r"[\"'`]+")
_COLONS = re.compile(r"\s*:\s*")
_SEPARATORS = re.compile(r"[^\w:*./+-]+")


def opted_out(headers: CIMultiDictProxy[str], product: str, directives: Iterable[str]) -> bool:
    """Whether the headers of a response forbid the use of its image.

    Args:
        headers: of the response. X-Robots-Tag counts if it is for all robots or for `product`, and
            tdm-reservation (W3C TDM Reservation Protocol) if it is 1.
        product: product token of the crawler.
        directives: directives of X-Robots-Tag that forbid the use; without any, headers are ignored.
    """
    forbidding = frozenset(directives)
    if not forbidding:
        return False
    reservations = headers.getall("tdm-reservation", ())
    if any("1" in _words(value) for value in reservations):
        return True
    tags = headers.getall("X-Robots-Tag", ())
    return any(not forbidding.isdisjoint(_directives(t, product, forbidding)) for t in tags)


def _words(text: str) -> list[str]:
    """Return the parts of a header in lower case, without quotes and white space."""
    return _SEPARATORS.split(_COLONS.sub(":", _QUOTES.sub("", text.lower())))


def _directives(tag: str, product: str, forbidding: frozenset[str]) -> Iterator[str]:
    """Yield the directives of one X-Robots-Tag that are for all robots or for `product`.

    A robot's name holds up to the next one. What follows the colon of a date or of an unknown directive
    is no directive, so that `ai-train: no, noai` forbids.
    """
    known, applies = _KNOWN | forbidding, True
    for word in _words(tag):
        name, *rest = word.split(":")
        if rest and name not in known and rest[0] in known:
            # The name of a robot; the directives that follow are for that robot.
            applies = name in ("", "*") or product_of(name) == product
            name = rest[0]
        if applies:
            yield from _NONE if name == "none" else ()
            yield name
