"""The order of requests: rows wait in a queue per host, within the limits that each host sets.

All of this runs in one event loop, so it needs no locks.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Iterator
from itertools import count

from curation.media.web.fetch_error import FetchError
from curation.media.web.robots import (
    ROBOTS_CACHE,
    RobotsRules,
    parse_robots,
    product_of,
    rules_after_failure,
)
from curation.media.web.urls import host_of
from curation.stages.fetch.hosts import Host, Origin, origin_of
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import FetchRequest, FetchResult, HttpRequest

MAX_ROWS_IN_MEMORY = 100_000
"""Rows that wait in queues; further rows are read when these are finished."""
MAX_UNANSWERED = 3
"""Successive requests without a response after which a host counts as unreachable."""
MAX_ROBOTS_REDIRECTS = 5
"""Redirects of a robots.txt that are followed (RFC 9309, section 2.3.1.2)."""
_FIRST_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 30.0


class HostScheduler:
    """Gives out requests, one host after the other, and takes back their results.

    Args:
        rows: the rows to fetch, each with a URL.
        params: limits per host.
    """

    def __init__(self, rows: Iterator[FetchRequest], params: FetchParams) -> None:
        self._rows, self._params = rows, params
        self._product = product_of(params.user_agent)
        rate = params.per_host.per_second
        self._interval_s = 1 / rate if rate else 0.0
        self._hosts: dict[str, Host] = {}
        self._origins: dict[str, Origin] = {}
        self._ready: deque[Host] = deque()
        self._delayed: list[tuple[float, int, Host]] = []
        self._failed: deque[FetchResult] = deque()
        self._to_retry: list[FetchRequest] = []
        self._retries = self._rows_in_memory = 0
        self._all_rows_read = False
        self._changed = asyncio.Event()
        self._sequence = count()
        # Jitter spreads the requests of several tasks over time; no table depends on it.
        self._jitter = random.Random()

    # -- giving out requests ---------------------------------------------------------------------

    async def next(self) -> HttpRequest | FetchResult | None:
        """Return a request to send now, or a row that failed, or None after the last row."""
        loop = asyncio.get_running_loop()
        while True:
            self._read_rows()
            request = self._next_request(loop.time())
            if request is not None:
                return request
            if self._failed:
                return self._failed.popleft()
            if self._rows_in_memory:
                await self._wait_for_change(loop.time())
            elif not self._start_retries():
                return None

    def _next_request(self, now: float) -> HttpRequest | None:
        """Return a request that may be sent now, if there is one."""
        while self._delayed and self._delayed[0][0] <= now:
            host = heapq.heappop(self._delayed)[2]
            host.scheduled = False
            self._schedule(host, now)
        while self._ready:
            host = self._ready.popleft()
            host.scheduled = False
            # Its limits may have changed since it was scheduled.
            is_open = host.not_before <= now and host.in_flight < self._limit(host)
            request = self._take_from_queue(host, now) if is_open else None
            self._schedule(host, now)
            if request is not None:
                return request
        return None

    def _read_rows(self) -> None:
        while not self._all_rows_read and self._rows_in_memory < MAX_ROWS_IN_MEMORY:
            row = next(self._rows, None)
            if row is None:
                self._all_rows_read = True
            else:
                self._rows_in_memory += 1
                self._enqueue(HttpRequest(row, row.url or ""))

    def _start_retries(self) -> bool:
        """Enqueue the rows with transient failures again; return whether there were any."""
        if not self._to_retry or self._retries >= self._params.retries:
            return False
        self._retries += 1
        for host in self._hosts.values():
            # One more request without a response, and the host is unreachable again.
            host.unanswered = min(host.unanswered, MAX_UNANSWERED - 1)
        for origin in self._origins.values():
            if origin.rules is not None and origin.rules.error is not None:
                origin.rules = None
        rows, self._to_retry = self._to_retry, []
        self._rows_in_memory += len(rows)
        for row in rows:
            self._enqueue(HttpRequest(row, row.url or ""))
        return True

    async def _wait_for_change(self, now: float) -> None:
        """Wait until a result comes back or a delayed host may be requested."""
        self._changed.clear()
        try:
            async with asyncio.timeout(self._delayed[0][0] - now if self._delayed else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _enqueue(self, request: HttpRequest, first: bool = False) -> None:
        host, now = self._host(request.url), asyncio.get_running_loop().time()
        if first:
            host.queue.appendleft(request)
        elif self._is_within_patience(host, 1):
            host.queue.append(request)
        else:
            self._fail_as_too_slow(request)
            return
        self._schedule(host, now)

    def _host(self, url: str) -> Host:
        name = host_of(url)
        if name not in self._hosts:
            self._hosts[name] = Host(self._interval_s)
        return self._hosts[name]

    def _schedule(self, host: Host, now: float) -> None:
        """Put a host with requests to send among the ready or the delayed ones."""
        if host.scheduled or not host.queue or host.in_flight >= self._limit(host):
            return
        host.scheduled = True
        if host.not_before > now:
            heapq.heappush(self._delayed, (host.not_before, next(self._sequence), host))
        else:
            self._ready.append(host)

    def _limit(self, host: Host) -> int:
        """Return how many requests to a host may run at once: one while it is in trouble."""
        in_trouble = host.unanswered or host.backoffs
        return 1 if in_trouble else self._params.per_host.concurrency

    def _take_from_queue(self, host: Host, now: float) -> HttpRequest | None:
        """Return the first request of a queue that robots.txt allows."""
        while host.queue:
            request = self._check_robots(host.queue.popleft())
            if request is not None:
                host.in_flight += 1
                host.not_before = max(host.not_before, now) + host.interval_s
                return request
        return None

    # -- robots.txt ------------------------------------------------------------------------------

    def _check_robots(self, request: HttpRequest) -> HttpRequest | None:
        """Return the request if it is allowed, or one for the robots.txt that is needed first."""
        if request.row is None or not self._params.robots:
            return request
        name = origin_of(request.url)
        origin = self._origin(name)
        if origin.rules is None:
            origin.blocked.append(request)
            if origin.requested:
                return None
            origin.requested = True
            return HttpRequest(None, f"{name}/robots.txt", robots_of=name)
        if origin.rules.error is not None:
            self._fail_or_retry(request, origin.rules.error)
        elif not origin.rules.allows(request.url, self._product):
            self._fail_or_retry(request, FetchError("robots_disallowed"))
        else:
            return request
        return None

    def _origin(self, name: str) -> Origin:
        if name not in self._origins:
            rules = ROBOTS_CACHE.get(f"{name} {self._product}")
            self._origins[name] = Origin(rules)
            if rules is not None and rules.delay_s:
                self._slow_down(self._host(name), rules.delay_s)
        return self._origins[name]

    def _apply_robots(self, request: HttpRequest, rules: RobotsRules) -> None:
        """Set the rules of an origin, and enqueue the requests that wait for them."""
        origin = self._origins[request.robots_of]
        origin.rules, origin.requested = rules, False
        ROBOTS_CACHE.put(f"{request.robots_of} {self._product}", rules)
        blocked, origin.blocked = origin.blocked, []
        host = self._host(request.robots_of)
        if rules.delay_s > 0:
            self._slow_down(host, rules.delay_s)
        for waiting in reversed(blocked):
            self._enqueue(waiting, first=True)
        while not self._is_within_patience(host, 0):
            self._fail_as_too_slow(host.queue.pop())

    def _slow_down(self, host: Host, delay_s: float) -> None:
        """Keep the delay between requests that the robots.txt of a host asks for."""
        host.interval_s = max(host.interval_s, delay_s)
        host.not_before += delay_s
        host.asked_until = asyncio.get_running_loop().time() + delay_s

    def _is_within_patience(self, host: Host, added: int) -> bool:
        """Whether the queue of a host, with some requests added, ends within `patience_s`.

        The recipe's own limit per host does not count: only delays that the host asks for do.
        """
        if not host.queue and not added:
            return True
        wait_s = host.asked_until - asyncio.get_running_loop().time()
        if host.interval_s > self._interval_s:
            wait_s = max(wait_s, (len(host.queue) + added) * host.interval_s)
        return wait_s <= self._params.patience_s

    def _fail_as_too_slow(self, request: HttpRequest) -> None:
        self._fail_or_retry(request, FetchError("host_too_slow", transient=True))

    # -- taking back results ---------------------------------------------------------------------

    def succeeded(self, request: HttpRequest, content: bytes = b"") -> None:
        """Take back a request that succeeded; `content` is needed only of a robots.txt."""
        self._record_response(request)
        if request.row is None:
            self._apply_robots(request, parse_robots(content, self._product))
        else:
            self._rows_in_memory -= 1

    def redirected(self, request: HttpRequest, url: str) -> None:
        """Take back a request that was redirected to `url` (normalised)."""
        limit = self._params.max_redirects if request.row else MAX_ROBOTS_REDIRECTS
        if request.redirects >= limit:
            self.failed(request, FetchError("too_many_redirects"))
            return
        self._record_response(request)
        request.url, request.redirects = url, request.redirects + 1
        self._enqueue(request, first=True)

    def failed(self, request: HttpRequest, error: FetchError) -> None:
        """Take back a request that failed."""
        if error.unanswered:
            self._record_no_response(request, error)
        elif error.wait_s is not None:
            self._back_off(request, error.wait_s)
        else:
            self._record_response(request)
        self._fail_or_retry(request, error)

    def _fail_or_retry(self, request: HttpRequest, error: FetchError) -> None:
        """Keep a row for the next retry if its failure is transient, or let it fail."""
        if request.row is None:
            self._apply_robots(request, rules_after_failure(error, request.redirects > 0))
            return
        self._rows_in_memory -= 1
        if error.transient and self._retries < self._params.retries:
            self._to_retry.append(request.row)
        else:
            self._failed.append(FetchResult(request.row, reason=error.reason))

    def _record_response(self, request: HttpRequest) -> None:
        host = self._host(request.url)
        host.unanswered = host.backoffs = 0
        self._release(host)

    def _back_off(self, request: HttpRequest, wait_s: float) -> None:
        """Pause a host for the time that it asks for, or with exponential backoff if it names none."""
        host, now = self._host(request.url), asyncio.get_running_loop().time()
        backoff_s = min(_FIRST_BACKOFF_S * 2**host.backoffs, _MAX_BACKOFF_S)
        wait_s = wait_s or backoff_s * self._jitter.uniform(0.5, 1.0)
        host.unanswered, host.backoffs = 0, min(host.backoffs + 1, 16)
        host.not_before = max(host.not_before, now + wait_s)
        host.asked_until = max(host.asked_until, now + wait_s)
        if wait_s > self._params.patience_s:
            while host.queue:
                self._fail_as_too_slow(host.queue.pop())
        self._release(host)

    def _record_no_response(self, request: HttpRequest, error: FetchError) -> None:
        """Count a request without a response; fail the whole queue of an unreachable host."""
        host = self._host(request.url)
        host.unanswered += 1
        if error.whole_host or host.unanswered >= MAX_UNANSWERED:
            reason = error.reason if error.whole_host else "host_unreachable"
            of_host = FetchError(reason, transient=error.transient or not error.whole_host)
            while host.queue:
                self._fail_or_retry(host.queue.popleft(), of_host)
        self._release(host)

    def _release(self, host: Host) -> None:
        """Take back the slot of a request that ended."""
        host.in_flight -= 1
        self._schedule(host, asyncio.get_running_loop().time())
        self._changed.set()
