"""Hosts of URLs, and the domains that they are in, as tombstones name them."""

from __future__ import annotations

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

_MAX_LABELS = 127
"""Labels of a host name (RFC 1035: 255 bytes)."""


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
