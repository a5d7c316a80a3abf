"""The bytes of all bodies in memory, within one limit."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

SMALL_BYTES = 256 * 1024
"""Bytes that each body has without asking, so that small bodies never wait for large ones."""
STALL_S = 2.0
"""Seconds after which a body that hardly grows gives its bytes to those that wait."""
_PROGRESS_BYTES = 16 * 1024
"""Bytes by which a body must grow in this time."""
_CHECK_S = 0.01
"""Shortest time after which a body that waits looks again for those that have stalled."""


class ByteBudget:
    """Limits the bytes of all bodies in memory.

    When all bytes are reserved, one body at a time may still grow, up to its largest size. Without
    this, bodies that wait for each other's bytes would wait forever. A body whose host hangs or drips
    holds its bytes only as long as no other waits for them.
    """

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._waiting: deque[asyncio.Event] = deque()
        self._leader: Reservation | None = None
        self._growing: set[Reservation] = set()

    def limit_to(self, total: int) -> bool:
        """Lower the limit, unless more is reserved; return whether it is not above `total` now."""
        reserved = self._total - self._free
        if self._total > total >= reserved:
            self._total, self._free = total, total - reserved
        return self._total <= total

    async def acquire(
        self, size: int, deadline: asyncio.Timeout, body: Reservation | None = None
    ) -> float:
        """Reserve `size` bytes; the time until they are free does not count against `deadline`.

        Returns:
            Seconds until they were free.
        """
        begun = _now()
        while self._free < size and not self._leads(body):
            due, started = deadline.when(), _now()
            deadline.reschedule(None)
            freed = asyncio.Event()
            self._waiting.append(freed)
            self._note(body, grows=False)
            while not await _is_set(freed, self._end_stalled()):
                pass
            if due is not None:
                deadline.reschedule(due + _now() - started)
        self._free -= size
        self._note(body, grows=True)
        return _now() - begun

    def _leads(self, body: Reservation | None) -> bool:
        self._leader = self._leader or body
        return body is not None and self._leader is body

    def _note(self, body: Reservation | None, grows: bool) -> None:
        if body is not None:
            (self._growing.add if grows else self._growing.discard)(body)

    def _end_stalled(self) -> float:
        """End the bodies that have stalled; return the seconds after which others may have."""
        now = _now()
        for body in [body for body in self._growing if body.stalls_at <= now]:
            self._note(body, grows=False)
            body.expire(now)
        next_stall = min((body.stalls_at - now for body in self._growing), default=STALL_S)
        return max(_CHECK_S, next_stall)

    def complete(self, body: Reservation) -> None:
        """Note that a body has arrived: it keeps its bytes."""
        self._note(body, grows=False)

    def release(self, size: int, body: Reservation | None = None) -> None:
        """Give `size` bytes back; `body` is one that no longer grows."""
        self._free += size
        self._note(body, grows=False)
        leads = self._leader is body
        if leads:
            self._leader = None
        while (size or leads) and self._waiting:
            self._waiting.popleft().set()


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    """Whether an event comes within some seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within_s)
    return event.is_set()


class Reservation:
    """The bytes that one body has reserved of a budget, beyond the first SMALL_BYTES.

    Args:
        budget: of all bodies.
        deadline: of the request of this body; it is moved to now if the body stalls.
    """

    def __init__(self, budget: ByteBudget, deadline: asyncio.Timeout) -> None:
        self._budget, self._deadline = budget, deadline
        self._size = self._reserved = 0
        self._progress_size, self._progress_at = 0, _now()

    async def grow(self, size: int) -> None:
        """Take `size` more bytes."""
        self._size += size
        more = _large_part(self._size) - self._reserved
        if more > 0:
            # Waiting is no time of the host.
            self._progress_at += await self._budget.acquire(more, self._deadline, self)
            self._reserved += more
        if self._size - self._progress_size >= _PROGRESS_BYTES:
            self._progress_size, self._progress_at = self._size, _now()

    @property
    def stalls_at(self) -> float:
        """When it has hardly grown for STALL_S, unless it grows before."""
        return self._progress_at + STALL_S

    def expire(self, now: float) -> None:
        """End its request, as if its time were over."""
        if not self._deadline.expired():
            self._deadline.reschedule(now)

    def complete(self) -> None:
        """Note that all bytes have arrived: what follows is no time of the host."""
        self._budget.complete(self)

    def shrink(self, size: int) -> None:
        """Keep `size` bytes and give back the rest: the body is complete."""
        kept = min(_large_part(size), self._reserved)
        self._budget.release(self._reserved - kept, self)
        self._size, self._reserved = size, kept

    def release(self) -> None:
        """Give all bytes back."""
        self.shrink(0)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _large_part(size: int) -> int:
    return max(0, size - SMALL_BYTES)
