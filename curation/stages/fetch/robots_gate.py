"""Lets requests pass that robots.txt permits, after the robots.txt of their origin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from curation.media.web.fetch_error import FetchError, unforeseen
from curation.media.web.robots import RobotsRules, product_of
from curation.media.web.robots_cache import ROBOTS_CACHE
from curation.media.web.urls import host_of
from curation.stages.fetch.hosts import Host, Hosts, Origin, origin_of
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import HttpRequest

MAX_RULES_S = 5.0
"""Processor time that the rules of one origin may take."""
SLICE_S = 0.02
"""Seconds for which rules are applied before others have their turn."""


class RobotsGate:
    """Decides which requests robots.txt permits.

    Rules are in the cache of the process, which is bounded; a robots.txt that it has dropped is
    requested again.

    Args:
        params: whether robots.txt is read, and for which crawler.
        hosts: the hosts of the fetch.
        fail: takes a request that is not permitted.
    """

    def __init__(
        self,
        params: FetchParams,
        hosts: Hosts,
        fail: Callable[[HttpRequest, FetchError], None],
    ) -> None:
        self._needed, self._product = params.robots, product_of(params.user_agent)
        self._hosts, self._fail = hosts, fail

    def check(self, request: HttpRequest) -> HttpRequest | None:
        """Return the request if it is permitted, or one for the robots.txt that is needed first."""
        if request.row is None or request.permitted or not self._needed:
            return request
        name = origin_of(request.url)
        origin = self._origin(name)
        if origin.error is not None:
            self._fail(request, origin.error)
            return None
        rules = None if origin.requested else self._cached(name, origin)
        if rules is not None:
            return request if self._permits(origin, rules, request) else None
        origin.blocked.append(request)
        if origin.requested:
            return None
        origin.requested = True
        return HttpRequest(None, f"{name}/robots.txt", robots_of=name)

    def apply(self, name: str, rules: RobotsRules) -> Iterator[HttpRequest | None]:
        """Set the rules of an origin, and decide the requests that wait for them.

        Yields:
            Each request that is permitted, the last one first; and None now and then.
        """
        origin, host = self._origin(name), self._hosts[host_of(name)]
        ROBOTS_CACHE.put(self._key(name), rules)
        slow_down(host, rules.delay_s)
        _hold_back(host, name, origin)
        origin.error = rules.error
        pause = time.monotonic() + SLICE_S
        while origin.blocked:
            waiting = origin.blocked.pop()
            if origin.error is not None:
                self._fail(waiting, origin.error)
            elif self._permits(origin, rules, waiting):
                yield waiting
            if time.monotonic() > pause:
                yield None
                pause = time.monotonic() + SLICE_S
        origin.requested = False

    def _cached(self, name: str, origin: Origin) -> RobotsRules | None:
        """Return the rules of an origin, if they are cached. Large ones may be parsed once more."""
        started = time.thread_time()
        rules = ROBOTS_CACHE.get(self._key(name))
        origin.spent_s += time.thread_time() - started
        return rules

    def forgive(self) -> None:
        """Request each robots.txt again that could not be read."""
        for host in self._hosts.all():
            for origin in host.origins.values():
                origin.error = None

    def _key(self, name: str) -> str:
        return f"{name} {self._product}"

    def _origin(self, name: str) -> Origin:
        host = self._hosts[host_of(name)]
        if name not in host.origins:
            host.origins[name] = Origin()
            rules = ROBOTS_CACHE.get(self._key(name))
            slow_down(host, rules.delay_s if rules else 0.0)
        return host.origins[name]

    def _permits(self, origin: Origin, rules: RobotsRules, request: HttpRequest) -> bool:
        """Whether rules permit a request; if not, it has failed."""
        started = time.thread_time()
        try:
            request.permitted = rules.allows(request.url, self._product)
            error = None if request.permitted else FetchError("robots_disallowed")
        except Exception as unexpected:
            error = unforeseen(unexpected)
        origin.spent_s += time.thread_time() - started
        if origin.spent_s > MAX_RULES_S:
            origin.error = error = FetchError("robots_unreadable")
        if error is not None:
            self._fail(request, error)
        return error is None


def _hold_back(host: Host, name: str, origin: Origin) -> None:
    """Let the rules decide all requests of an origin that wait, while they are at hand."""
    others: list[HttpRequest] = []
    while host.queue:
        request = host.queue.popleft()
        undecided = request.row is not None and not request.permitted
        held = origin.blocked if undecided and origin_of(request.url) == name else others
        held.append(request)
    host.queue.extend(others)


def slow_down(host: Host, delay_s: float) -> None:
    """Keep the delay between requests that the robots.txt of a host asks for."""
    if delay_s > 0:
        host.interval_s = max(host.interval_s, delay_s)
        host.not_before += delay_s
        host.asked_until = asyncio.get_running_loop().time() + delay_s
