"""What robots.txt and other files of many origins say, in a bounded number of bytes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Generic, TypeVar

from curation.media.web.opt_outs.site import SiteRules, read_rules

MAX_CACHE_BYTES = 64 * 2**20
"""Bytes of rules that a process caches; half of them for texts of up to SMALL_BYTES."""
SMALL_BYTES = 8 * 1024
"""Larger texts never displace smaller ones."""
MAX_PARSED_BYTES = 256 * 1024
"""Bytes of the texts whose parsed rules are kept; those need up to a hundred times as many."""
CACHE_TTL_S = 24 * 3600
"""Seconds for which rules are cached (RFC 9309, section 2.4)."""
_ENTRY_BYTES = 400

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Values by key, of which those that were used last are kept.

    Attributes:
        size: bytes of all values.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self.size = max_bytes, 0
        self._values: OrderedDict[str, tuple[int, Value]] = OrderedDict()

    def get(self, key: str) -> Value | None:
        """Return the value of a key, or None if it is not kept."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][1]

    def put(self, key: str, value: Value, size: int) -> None:
        """Keep a value of `size` bytes; the last one is kept whatever its size."""
        self.drop(key)
        self._values[key] = (size, value)
        self.size += size
        while self.size > self._max_bytes and len(self._values) > 1:
            self.drop(next(iter(self._values)))

    def drop(self, key: str) -> None:
        """Forget a key."""
        self.size -= self._values.pop(key, (0, None))[0]


class RobotsCache:
    """Rules by origin, shared by all crawls of a process, also in several threads.

    Args:
        max_bytes: of all texts together.
    """

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._small: ByteCache[tuple[float, bytes]] = ByteCache(max_bytes // 2)
        self._large: ByteCache[tuple[float, bytes]] = ByteCache(max_bytes // 2)
        self._parsed: ByteCache[SiteRules] = ByteCache(MAX_PARSED_BYTES)
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all texts."""
        return self._small.size + self._large.size

    def get(self, origin: str) -> SiteRules | None:
        """Return the rules of an origin, or None if they are not cached or too old."""
        with self._lock:
            expires, text = self._small.get(origin) or self._large.get(origin) or (0.0, b"")
            rules = self._parsed.get(origin)
        if expires <= time.monotonic():
            return None
        if rules is None or rules.text != text:
            rules = read_rules(text)
            with self._lock:
                self._parsed.put(origin, rules, len(text))
        return rules

    def put(self, origin: str, rules: SiteRules) -> None:
        """Cache the rules of an origin, unless its robots.txt could not be read."""
        if rules.error is not None:
            return
        text = rules.text
        size = _ENTRY_BYTES + len(origin) + len(text)
        expires = time.monotonic() + CACHE_TTL_S
        with self._lock:
            for cache in (self._small, self._large, self._parsed):
                cache.drop(origin)
            cache = self._small if size <= SMALL_BYTES else self._large
            cache.put(origin, (expires, text), size)


ROBOTS_CACHE = RobotsCache()
