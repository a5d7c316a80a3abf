"""Which hosts share a name server: those of one registered domain."""

from __future__ import annotations

import re

_SECOND_LEVEL = frozenset(
    re.findall(r"\w+", "ac co com edu go gob gov gouv ltd mil ne net nhs nom or org sch")
)
"""Labels under which countries register domains, as in `example.co.uk`."""
_COUNTRY = 2
"""Letters of the top-level domain of a country."""


def domain_of(host: str) -> str:
    """Return the registered domain of a host name, as far as its labels show it.

    The list of public suffixes changes each week. Nothing here depends on a name that it would cut
    elsewhere, except that hosts of one hoster (`a.blogs.example`) share their limits.
    """
    labels = host.rsplit(".", 3)[-3:]
    if len(labels) < 3 or (len(labels[-1]) == _COUNTRY and labels[-2] in _SECOND_LEVEL):
        return ".".join(labels)
    return ".".join(labels[-2:])
