"""Lets requests pass that the rules of their site permit, after the files with these rules."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator

from curation.media.web.fetch_error import FetchError, unforeseen
from curation.media.web.opt_outs.policy import OptOutPolicy, opt_out_policy
from curation.media.web.opt_outs.robots_cache import ROBOTS_CACHE
from curation.media.web.opt_outs.signals import OptOutError
from curation.media.web.opt_outs.site import (
    SiteFile,
    SiteRules,
    first_file,
    next_file,
    rules_after_failure,
)
from curation.media.web.urls import host_of
from curation.stages.fetch.hosts import Host, Hosts, Origin, origin_of
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.request import HttpRequest

MAX_RULES_S = 5.0
"""Processor time that the rules of one origin may take."""
SLICE_S = 0.02
"""Seconds for which rules are applied before others have their turn."""


class RobotsGate:
    """Decides which requests the rules of a site permit: robots.txt, TDMRep and a licence.

    Rules are in the cache of the process, which is bounded; files of a site that it has dropped are
    requested again.

    Args:
        params: which rules are read, and for which crawler.
        hosts: the hosts of the fetch.
        fail: takes a request that is not permitted.
    """

    def __init__(
        self,
        params: FetchParams,
        hosts: Hosts,
        fail: Callable[[HttpRequest, FetchError], None],
    ) -> None:
        self._policy = opt_out_policy(params)
        self._hosts, self._fail = hosts, fail

    def check(self, request: HttpRequest) -> HttpRequest | None:
        """Return the request if it is permitted, or one for the file that is needed first."""
        name = origin_of(request.url)
        file = first_file(name, self._policy)
        if request.row is None or request.permitted or file is None:
            return request
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
        return HttpRequest(None, file.url, rules_of=name, file=file)

    def next_file(self, request: HttpRequest, rules: SiteRules) -> HttpRequest | None:
        """Return the request for the file of a site that is needed next, or None after the last.

        Args:
            request: for the file before it.
            rules: of the site, as far as they are known.
        """
        name = request.rules_of
        slow_down(self._hosts[host_of(name)], rules.delay_s - request.known.delay_s)
        file = next_file(_file_of(request), name, rules, self._policy)
        if file is None:
            return None
        return HttpRequest(None, file.url, rules_of=name, file=file, known=rules)

    def after_failure(self, request: HttpRequest, error: FetchError) -> SiteRules:
        """Return the rules of a site of which a file could not be read."""
        redirected = request.redirects > 0
        return rules_after_failure(_file_of(request), request.known, error, redirected)

    def apply(self, name: str, rules: SiteRules) -> Iterator[HttpRequest | None]:
        """Set the rules of an origin, and decide the requests that wait for them.

        Yields:
            Each request that is permitted, the last one first; and None now and then.
        """
        origin, host = self._origin(name), self._hosts[host_of(name)]
        ROBOTS_CACHE.put(self._key(name), rules)
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

    def _cached(self, name: str, origin: Origin) -> SiteRules | None:
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
        return cache_key(name, self._policy)

    def _origin(self, name: str) -> Origin:
        host = self._hosts[host_of(name)]
        if name not in host.origins:
            host.origins[name] = Origin()
            rules = ROBOTS_CACHE.get(self._key(name))
            slow_down(host, rules.delay_s if rules else 0.0)
        return host.origins[name]

    def _permits(self, origin: Origin, rules: SiteRules, request: HttpRequest) -> bool:
        """Whether rules permit a request; if not, it has failed."""
        started = time.thread_time()
        try:
            opt_out = rules.opt_out(request.url)
            request.permitted, request.license = opt_out is None, rules.license
            error: FetchError | None = None if opt_out is None else OptOutError(opt_out)
        except Exception as unexpected:
            error = unforeseen(unexpected)
        origin.spent_s += time.thread_time() - started
        if origin.spent_s > MAX_RULES_S:
            origin.error = error = FetchError("robots_unreadable")
        if error is not None:
            self._fail(request, error)
        return error is None


class WaitingRules:
    """Rules that are applied a slice at a time, since all hosts share the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Iterator[None]] = deque()

    def add(self, applied: Iterator[None]) -> None:
        """Add what applies rules, and pauses now and then."""
        self._waiting.append(applied)

    def apply(self) -> bool:
        """Apply rules for a while; return whether there are more."""
        end = time.monotonic() + SLICE_S
        while self._waiting:
            applied = self._waiting.popleft()
            for _ in applied:
                self._waiting.append(applied)
                break
            if time.monotonic() > end:
                break
        return bool(self._waiting)


def cached_rules(origin: str, policy: OptOutPolicy) -> SiteRules | None:
    """Return the rules of an origin, if this process has read them within a day."""
    return ROBOTS_CACHE.get(cache_key(origin, policy))


def cache_key(origin: str, policy: OptOutPolicy) -> str:
    """Return the key of the cache for the rules of an origin."""
    return f"{origin} {policy.key}"


def _file_of(request: HttpRequest) -> SiteFile:
    assert request.file is not None
    return request.file


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
