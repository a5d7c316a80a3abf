"""Whose turn it is: hosts that may be requested now, hosts that must wait, and room for slow ones."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count

from curation.stages.fetch.hosts import Host, Standing
from curation.stages.fetch.request import HttpRequest

PROMPT_S = 2.0
"""Seconds within which a host answers promptly."""
NEW_SHARE, SLOW_SHARE = 3 / 4, 1 / 2
"""Requests that may take long, as shares of all: no new host is requested when as many run, and no slow
host. The rest is for hosts that answer promptly, so that others cannot hold all requests."""


class Turns:
    """Gives each host its turn, in the order in which the hosts became ready.

    Args:
        concurrency: largest number of requests at the same time.
    """

    def __init__(self, concurrency: int) -> None:
        self._room = {
            Standing.PROMPT: concurrency + 1,
            Standing.NEW: max(1, int(concurrency * NEW_SHARE)),
            Standing.SLOW: max(1, int(concurrency * SLOW_SHARE)),
        }
        self._ready: dict[Standing, deque[tuple[int, Host]]] = {s: deque() for s in Standing}
        self._delayed: list[tuple[float, int, Host]] = []
        self._running: deque[tuple[float, Host, HttpRequest]] = deque()
        self._doubtful = 0
        self._sequence = count(1)

    def add(self, host: Host, now: float) -> None:
        """Put a host among the ready ones, or among those that must wait until `not_before`.

        A turn that it has already no longer counts.
        """
        host.turn, host.queued = next(self._sequence), host.standing
        if host.not_before > now:
            heapq.heappush(self._delayed, (host.not_before, host.turn, host))
        else:
            self._ready[host.queued].append((host.turn, host))

    def next_start(self) -> float | None:
        """Return the loop time at which a waiting host may be requested; None if none waits."""
        return self._delayed[0][0] if self._delayed else None

    def pop(self, now: float) -> Host | None:
        """Return the host whose turn it is; None if there is none."""
        self._find_late(now)
        while self._delayed and self._delayed[0][0] <= now:
            _, turn, host = heapq.heappop(self._delayed)
            if host.turn == turn:
                self.add(host, now)
        open_queues = [q for s, q in self._ready.items() if self._doubtful < self._room[s]]
        for queue in open_queues:
            while queue and queue[0][1].turn != queue[0][0]:
                queue.popleft()
        first = min(filter(None, open_queues), key=lambda queue: queue[0][0], default=None)
        if first is None:
            return None
        host = first.popleft()[1]
        host.turn = 0
        return host

    def start(self, host: Host, request: HttpRequest, now: float) -> None:
        """Note that a request is sent."""
        request.started = now
        request.doubtful = host.standing is not Standing.PROMPT
        self._doubtful += request.doubtful
        self._running.append((now, host, request))

    def end(self, host: Host, request: HttpRequest, now: float) -> None:
        """Note that a request has ended, and how long it took."""
        self._doubtful -= request.doubtful
        host.slow = request.started is not None and now - request.started > PROMPT_S
        request.started, request.doubtful = None, False
        if host.turn and host.standing is Standing.PROMPT and host.queued is not Standing.PROMPT:
            self.add(host, now)

    def _find_late(self, now: float) -> None:
        """Count the requests that have become late among those that may take long."""
        while self._running and self._running[0][0] <= now - PROMPT_S:
            started, host, request = self._running.popleft()
            if request.started == started and not request.doubtful:
                request.doubtful, host.slow = True, True
                self._doubtful += 1
