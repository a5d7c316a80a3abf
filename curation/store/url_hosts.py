"""Hosts of URLs, and the domains that they are in, as tombstones name them."""

from __future__ import annotations

import re

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_MAX_LABELS = 127
"""Labels of a host name (RFC 1035: 255 bytes)."""


def is_address(text: str) -> bool:
    """Whether a text is an address and nothing else, and none in which one is mentioned."""
    return _ADDRESS.fullmatch(text.strip()) is not None


def without_scheme(url: str) -> str:
    """Return a URL from its host on."""
    return url.split("://", 1)[-1]


def hosts_of(url: str) -> list[str]:
    """Return the host of a URL, and all domains that it is in; none for a text without a host.

    Of a text with more labels than a name has, the last ones count.
    """
    _, mark, rest = url.partition("://")
    if not mark:
        return []
    authority = rest.split("/", 1)[0].split("?", 1)[0].split("#", 1)[0].rpartition("@")[2].lower()
    if authority.startswith("["):
        return [authority.split("]", 1)[0] + "]"]
    labels = authority.split(":", 1)[0].rstrip(".").split(".")[-_MAX_LABELS:]
    return [".".join(labels[start:]) for start in range(len(labels))]
