"""Whether the header X-Robots-Tag of a response forbids the use of its image."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from curation.media.web.opt_outs.robots_txt import product_of

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
# Without the look-behind, a run of spaces is read again from each of them.
_COLONS = re.compile(r"(?<!\s)\s*:\s*")
_SEPARATORS = re.compile(r"[^\w:*./+-]+")


def forbids_use(tag: str, products: Collection[str], directives: Collection[str]) -> bool:
    """Whether one X-Robots-Tag has a directive that forbids the use of an image.

    Args:
        tag: value of the header.
        products: product tokens of crawlers. Directives for them count, and those for all robots.
        directives: directives that forbid the use.
    """
    forbidding = frozenset(directives)
    return not forbidding.isdisjoint(_directives(tag, products, forbidding))


def _words(text: str) -> list[str]:
    """Return the parts of a header in lower case, without quotes and white space."""
    return _SEPARATORS.split(_COLONS.sub(":", _QUOTES.sub("", text.lower())))


def _directives(tag: str, products: Collection[str], forbidding: frozenset[str]) -> Iterator[str]:
    """Yield the directives of one X-Robots-Tag that are for all robots or for one of `products`.

    A robot's name holds up to the next one. What follows the colon of a date or of an unknown directive
    is no directive, so that `ai-train: no, noai` forbids.
    """
    known, applies = _KNOWN | forbidding, True
    for word in _words(tag):
        name, *rest = word.split(":")
        if rest and name not in known and rest[0] in known:
            # The name of a robot; the directives that follow are for that robot.
            applies = name in ("", "*") or product_of(name) in products
            name = rest[0]
        if applies:
            yield from _NONE if name == "none" else ()
            yield name
