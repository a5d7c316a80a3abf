"""The order of requests: rows wait in a queue per host, within the limits that each host sets.

All of this runs in one event loop, so it needs no locks.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator

from curation.media.web.fetch_error import FetchError
from curation.media.web.lookups import Addresses, Lookups, lookup_error
from curation.media.web.opt_outs.signals import opt_out_of
from curation.media.web.opt_outs.site import SiteRules
from curation.media.web.urls import host_of
from curation.stages.fetch.hosts import Host, Hosts
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import FetchRequest, FetchResult, HttpRequest
from curation.stages.fetch.robots_gate import SLICE_S, RobotsGate, WaitingRules
from curation.stages.fetch.turns import Turns

MAX_ROWS_IN_MEMORY = 100_000
"""Rows that wait in queues; further rows are read when these are finished. A row with a long URL counts
as several."""
MAX_UNANSWERED = 3
"""Successive requests without a response after which a host counts as unreachable."""
MAX_ROBOTS_REDIRECTS = 5
"""Redirects of the files of a site that are followed (RFC 9309, section 2.3.1.2)."""
WAITING_SHARE = 1 / 4
"""Share of `concurrency` up to which few requests run."""
WAITING_S = 0.5
"""Seconds for which few requests run and no more may start, after which the fetch mostly waits."""
_FIRST_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 30.0


class HostScheduler:
    """Gives out requests, one host after the other, and takes back their results.

    Args:
        rows: the rows to fetch, each with a URL.
        params: limits per host.
        lookups: resolves the names of hosts before their first request.
        waiting: called while few requests run and no more may start.
    """

    def __init__(
        self,
        rows: Iterator[FetchRequest],
        params: FetchParams,
        lookups: Lookups,
        waiting: Callable[[], None],
    ) -> None:
        self._rows, self._params, self._lookups = rows, params, lookups
        self._waiting = waiting
        self._few_since: float | None = None
        self._in_flight = 0
        rate = params.per_host.per_second
        self._interval_s = 1 / rate if rate else 0.0
        self._hosts, self._turns = Hosts(self._interval_s), Turns(params.concurrency)
        self._robots = RobotsGate(params, self._hosts, self._fail_or_retry)
        self._answers: deque[tuple[Host, asyncio.Future[Addresses]]] = deque()
        self._failed: deque[FetchResult] = deque()
        self._rules = WaitingRules()
        self._is_cut = False
        self._to_retry: list[FetchRequest] = []
        self._retries = self._rows_in_memory = 0
        self._all_rows_read = False
        self._changed = asyncio.Event()
        # Jitter spreads the requests of several tasks over time; no table depends on it.
        self._jitter = random.Random()

    # -- giving out requests ---------------------------------------------------------------------

    async def next(self) -> HttpRequest | FetchResult | None:
        """Return a request to send now, or a row that failed, or None after the last row."""
        loop = asyncio.get_running_loop()
        while True:
            self._read_rows()
            self._take_addresses()
            has_rules = self._rules.apply()
            request = self._next_request(loop.time())
            if request is not None:
                return request
            if self._failed:
                return self._failed.popleft()
            if has_rules or self._is_cut:
                await asyncio.sleep(0)
            elif self._rows_in_memory:
                await self._wait_for_change(loop.time())
            elif not self._start_retries():
                return None

    def _next_request(self, now: float) -> HttpRequest | None:
        """Return a request that may be sent now, if there is one that is found soon."""
        self._is_cut, end = False, time.monotonic() + SLICE_S
        while not self._is_cut and (host := self._turns.pop(now)) is not None:
            # Its limits may have changed since it was scheduled.
            is_open = host.not_before <= now and host.in_flight < self._limit(host)
            request = self._take_from_queue(host, now, end) if is_open else None
            self._schedule(host, now)
            if request is not None:
                return request
            self._is_cut = time.monotonic() > end
        return None

    def _read_rows(self) -> None:
        while not self._all_rows_read and self._rows_in_memory < MAX_ROWS_IN_MEMORY:
            row = next(self._rows, None)
            if row is None:
                self._all_rows_read = True
            else:
                self._rows_in_memory += row.weight
                self._enqueue(HttpRequest(row, row.url or ""))

    def _start_retries(self) -> bool:
        """Enqueue the rows with transient failures again; return whether there were any."""
        if not self._to_retry or self._retries >= self._params.retries:
            return False
        self._retries += 1
        self._lookups.forgive()
        self._robots.forgive()
        for host in self._hosts.all():
            # One more request without a response, and the host is unreachable again.
            host.unanswered = min(host.unanswered, MAX_UNANSWERED - 1)
        rows, self._to_retry = self._to_retry, []
        self._rows_in_memory += sum(row.weight for row in rows)
        for row in rows:
            self._enqueue(HttpRequest(row, row.url or ""))
        return True

    async def _wait_for_change(self, now: float) -> None:
        """Wait until a result comes back or a delayed host may be requested."""
        self._changed.clear()
        self._note_wait(now)
        start = self._turns.next_start()
        try:
            async with asyncio.timeout(min(WAITING_S, start - now) if start else WAITING_S):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _note_wait(self, now: float) -> None:
        """Say that the fetch mostly waits, once this has been so for some time."""
        if self._few_since is None:
            self._few_since = now
        elif now - self._few_since >= WAITING_S:
            self._waiting()

    def _enqueue(self, request: HttpRequest, first: bool = False) -> None:
        host, now = self._host(request.url), asyncio.get_running_loop().time()
        if first:
            host.queue.appendleft(request)
        elif self._is_within_patience(host, 1):
            host.queue.append(request)
        else:
            self._fail_as_too_slow(request)
        if host.queue and not host.resolved and not host.looked_up:
            self._look_up(host)
        self._schedule(host, now)

    def _host(self, url: str) -> Host:
        return self._hosts[host_of(url)]

    def _schedule(self, host: Host, now: float) -> None:
        """Put a host with requests to send among the ready or the delayed ones."""
        if not host.queue:
            self._hosts.put_aside(host)
        elif host.resolved and not host.turn and host.in_flight < self._limit(host):
            self._turns.add(host, now)

    def _limit(self, host: Host) -> int:
        """Return how many requests to a host may run at once: one while it is in trouble."""
        in_trouble = host.unanswered or host.backoffs
        return 1 if in_trouble else self._params.per_host.concurrency

    def _take_from_queue(self, host: Host, now: float, end: float) -> HttpRequest | None:
        """Return the first request of a queue that robots.txt allows, if it is found before `end`."""
        while host.queue:
            request = self._robots.check(host.queue.popleft())
            if request is not None:
                self._turns.start(host, request, now)
                host.in_flight += 1
                self._in_flight += 1
                if self._in_flight > self._params.concurrency * WAITING_SHARE:
                    self._few_since = None
                host.not_before = max(host.not_before, now) + host.interval_s
                return request
            if time.monotonic() > end:
                break
        return None

    # -- names of hosts --------------------------------------------------------------------------

    def _look_up(self, host: Host) -> None:
        host.looked_up = True
        answer = self._lookups.find(host.name)
        answer.add_done_callback(lambda answer: self._note_answer(host, answer))

    def _note_answer(self, host: Host, answer: asyncio.Future[Addresses]) -> None:
        self._answers.append((host, answer))
        self._changed.set()

    def _take_addresses(self) -> None:
        """Open the hosts whose names were resolved, and let the rows of the others fail."""
        while self._answers:
            host, answer = self._answers.popleft()
            host.looked_up = False
            error = answer.exception()
            if error is None:
                host.resolved = True
            elif isinstance(error, Exception):
                of_host = lookup_error(error)
                for request in _emptied(host.queue):
                    self._fail_or_retry(request, of_host)
            self._schedule(host, asyncio.get_running_loop().time())

    # -- delays that hosts ask for ---------------------------------------------------------------

    def apply_rules(self, request: HttpRequest, rules: SiteRules) -> Iterator[None]:
        """Set the rules of an origin, and decide the requests that wait for them.

        Yields:
            After some requests, so that others have their turn.
        """
        self._record_response(request)
        yield from self._apply_rules(request, rules)

    def _apply_rules(self, request: HttpRequest, rules: SiteRules) -> Iterator[None]:
        following = self._robots.next_file(request, rules)
        if following is not None:
            self._enqueue(following, first=True)
        else:
            for permitted in self._robots.apply(request.rules_of, rules):
                if permitted is None:
                    yield
                else:
                    self._enqueue(permitted, first=True)
        host = self._host(request.rules_of)
        while not self._is_within_patience(host, 0):
            self._fail_as_too_slow(host.queue.pop())
        self._schedule(host, asyncio.get_running_loop().time())
        self._changed.set()

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

    def succeeded(self, request: HttpRequest, row: FetchRequest) -> None:
        """Take back a request that gave the image of a row."""
        self._record_response(request)
        self._rows_in_memory -= row.weight

    def redirected(self, request: HttpRequest, url: str) -> None:
        """Take back a request that was redirected to `url` (normalised)."""
        limit = self._params.max_redirects if request.row else MAX_ROBOTS_REDIRECTS
        if request.redirects >= limit:
            self.failed(request, FetchError("too_many_redirects"))
            return
        self._record_response(request)
        request.url, request.redirects, request.permitted = url, request.redirects + 1, False
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
            rules = self._robots.after_failure(request, error)
            self._rules.add(self._apply_rules(request, rules))
            self._changed.set()
            return
        self._rows_in_memory -= request.row.weight
        if error.transient and self._retries < self._params.retries:
            self._to_retry.append(request.row)
        else:
            opt_out = opt_out_of(error)
            result = FetchResult(
                request.row, reason=error.reason, detail=error.detail, opt_out=opt_out
            )
            self._failed.append(result)

    def _record_response(self, request: HttpRequest) -> None:
        host = self._host(request.url)
        host.unanswered = host.backoffs = 0
        host.answers += request.row is not None
        self._release(host, request)

    def _back_off(self, request: HttpRequest, wait_s: float) -> None:
        """Pause a host for the time that it asks for, or with exponential backoff if it names none."""
        host, now = self._host(request.url), asyncio.get_running_loop().time()
        backoff_s = min(_FIRST_BACKOFF_S * 2**host.backoffs, _MAX_BACKOFF_S)
        wait_s = wait_s or backoff_s * self._jitter.uniform(0.5, 1.0)
        host.unanswered, host.backoffs = 0, min(host.backoffs + 1, 16)
        host.not_before = max(host.not_before, now + wait_s)
        host.asked_until = max(host.asked_until, now + wait_s)
        if wait_s > self._params.patience_s:
            for waiting in _emptied(host.queue):
                self._fail_as_too_slow(waiting)
        self._release(host, request)

    def _record_no_response(self, request: HttpRequest, error: FetchError) -> None:
        """Count a request without a response; fail the whole queue of an unreachable host."""
        host = self._host(request.url)
        host.unanswered, host.answers = host.unanswered + 1, 0
        if error.whole_host or host.unanswered >= MAX_UNANSWERED:
            reason = error.reason if error.whole_host else "host_unreachable"
            of_host = FetchError(reason, transient=error.transient or not error.whole_host)
            for waiting in _emptied(host.queue):
                self._fail_or_retry(waiting, of_host)
        self._release(host, request)

    def _release(self, host: Host, request: HttpRequest) -> None:
        """Take back the slot of a request that ended."""
        now = asyncio.get_running_loop().time()
        host.in_flight -= 1
        self._in_flight -= 1
        self._turns.end(host, request, now)
        self._schedule(host, now)
        self._changed.set()


def _emptied(queue: deque[HttpRequest]) -> Iterator[HttpRequest]:
    """Yield the requests of a queue until it is empty, with those that are added meanwhile."""
    while queue:
        yield queue.popleft()
