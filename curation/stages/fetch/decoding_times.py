"""How long pictures of a host may be decoded in vain, so that none keeps the decoder from others."""

from __future__ import annotations

from collections import OrderedDict

FREE_S, MOST_S = 120.0, 600.0
"""Seconds that a host has at first, and at most."""
STORED_S, REFUSED_S = 1.0, 0.25
"""Seconds that each stored picture of a host adds, and each that is not decoded."""
SLOW_S = 1.0
"""Seconds from which on a picture without a stored image counts: many hosts send pages instead."""
MAX_HOSTS = 10_000
"""Hosts of which it is known how much they have left."""


class DecodingTimes:
    """The seconds that pictures of each host may still take without giving a stored image."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, float] = OrderedDict()

    def may_decode(self, host: str) -> bool:
        """Whether the next picture of a host may be decoded."""
        may = self._left.get(host, FREE_S) > 0
        if not may:
            self._add(host, REFUSED_S)
        return may

    def note(self, host: str, seconds: float, is_stored: bool) -> None:
        """Note what became of a picture.

        Args:
            host: that sent it.
            seconds: for which others waited for it.
            is_stored: whether it gave a stored image.
        """
        if is_stored:
            self._add(host, STORED_S)
        elif seconds >= SLOW_S:
            self._add(host, -seconds)

    def _add(self, host: str, seconds: float) -> None:
        self._left[host] = min(self._left.pop(host, FREE_S) + seconds, MOST_S)
        if len(self._left) > MAX_HOSTS:
            self._left.popitem(last=False)
