"""The bytes of all bodies in memory, within one limit."""

from __future__ import annotations

import asyncio
from collections import deque

SMALL_BYTES = 256 * 1024
"""Bytes that each body has without asking, so that small bodies never wait for large ones."""


class ByteBudget:
    """Limits the bytes of all bodies in memory.

    When all bytes are reserved, one body at a time may still grow, up to its largest size. Without
    this, bodies that wait for each other's bytes would wait forever.
    """

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._waiting: deque[asyncio.Event] = deque()
        self._leader: Reservation | None = None

    def limit_to(self, total: int) -> bool:
        """Lower the limit, unless more is reserved; return whether it is not above `total` now."""
        reserved = self._total - self._free
        if self._total > total >= reserved:
            self._total, self._free = total, total - reserved
        return self._total <= total

    async def acquire(
        self, size: int, deadline: asyncio.Timeout, body: Reservation | None = None
    ) -> None:
        """Reserve `size` bytes; the time until they are free does not count against `deadline`."""
        loop = asyncio.get_running_loop()
        while self._free < size and not self._leads(body):
            due, started = deadline.when(), loop.time()
            deadline.reschedule(None)
            freed = asyncio.Event()
            self._waiting.append(freed)
            await freed.wait()
            if due is not None:
                deadline.reschedule(due + loop.time() - started)
        self._free -= size

    def _leads(self, body: Reservation | None) -> bool:
        self._leader = self._leader or body
        return body is not None and self._leader is body

    def release(self, size: int, body: Reservation | None = None) -> None:
        """Give `size` bytes back; `body` is one that no longer grows."""
        self._free += size
        if self._leader is body:
            self._leader = None
        while self._waiting:
            self._waiting.popleft().set()


class Reservation:
    """The bytes that one body has reserved of a budget, beyond the first SMALL_BYTES."""

    def __init__(self, budget: ByteBudget, deadline: asyncio.Timeout) -> None:
        self._budget, self._deadline = budget, deadline
        self._size = self._reserved = 0

    async def grow(self, size: int) -> None:
        """Take `size` more bytes."""
        self._size += size
        more = _large_part(self._size) - self._reserved
        if more > 0:
            await self._budget.acquire(more, self._deadline, self)
            self._reserved += more

    def shrink(self, size: int) -> None:
        """Keep `size` bytes and give back the rest: the body is complete."""
        kept = min(_large_part(size), self._reserved)
        self._budget.release(self._reserved - kept, self)
        self._size, self._reserved = size, kept

    def release(self) -> None:
        """Give all bytes back."""
        self.shrink(0)


def _large_part(size: int) -> int:
    return max(0, size - SMALL_BYTES)
