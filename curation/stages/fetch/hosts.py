"""Whose turn it is: rows wait by host, and no host is asked more than it should be.

Everything here runs in one event loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from curation.media.web.refusal import RefusedError
from curation.media.web.robots import KNOWN, Rules, parse_robots, product_of, without_robots
from curation.media.web.urls import host_of
from curation.stages.fetch.outcome import Got, Wanted
from curation.stages.fetch.params import FetchParams

HELD = 100_000
"""Rows that wait in memory; the others stay in their file."""
SILENCES = 3
"""Requests without an answer, one after the other, after which a host is taken for dead."""
ROBOTS_REDIRECTS = 5
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 30.0


def origin_of(url: str) -> str:
    """Return scheme, host and port of a normalised URL."""
    return "/".join(url.split("/", 3)[:3])


@dataclass(slots=True, eq=False)
class Trip:
    """One row on its way, or, without a row, the robots.txt of `robots_of`."""

    row: Wanted | None
    url: str
    hops: int = 0
    robots_of: str = ""


@dataclass(slots=True, eq=False)
class Origin:
    """What robots may ask of an origin; rows wait in `parked` until that is known."""

    rules: Rules | None = None
    asking: bool = False
    parked: list[Trip] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Host:
    """One host.

    `asked` requests are under way; it may be asked again at `opens` (loop time) and then every
    `pace_s`. It left `silences` requests unanswered, and `pleas` times it asked for a rest.
    """

    pace_s: float
    waiting: deque[Trip] = field(default_factory=deque)
    asked: int = 0
    opens: float = 0.0
    silences: int = 0
    pleas: int = 0
    listed: bool = False


class Hosts:
    """Gives out trips, by turns of their hosts, and takes back what became of them."""

    def __init__(self, wanted: Iterator[Wanted], params: FetchParams) -> None:
        self._wanted, self._params = wanted, params
        self._product = product_of(params.user_agent)
        rate = params.per_host.per_second
        self._pace_s = 1 / rate if rate else 0.0
        self._hosts: dict[str, Host] = {}
        self._origins: dict[str, Origin] = {}
        self._ready: deque[Host] = deque()
        self._later: list[tuple[float, int, Host]] = []
        self._refused: deque[Got] = deque()
        self._again: list[Wanted] = []
        self._tried = self._held = 0
        self._all_read = False
        self._changed = asyncio.Event()
        self._number = count()
        # Jitter spreads tasks over time; it decides nothing that a table shows.
        self._jitter = random.Random()

    # -- giving out ------------------------------------------------------------------------------

    async def next(self) -> Trip | Got | None:
        """Return what may be asked now, or a row that nobody will ask for, or None at the end."""
        loop = asyncio.get_running_loop()
        while True:
            self._read_on()
            now = loop.time()
            while self._later and self._later[0][0] <= now:
                host = heapq.heappop(self._later)[2]
                host.listed = False
                self._list(host, now)
            while self._ready:
                host = self._ready.popleft()
                host.listed = False
                # It may have asked for a rest since it was listed.
                may = host.opens <= now and host.asked < self._limit(host)
                trip = self._start(host, now) if may else None
                self._list(host, now)
                if trip is not None:
                    return trip
            if self._refused:
                return self._refused.popleft()
            if self._held:
                await self._wait(now)
            elif not self._try_again():
                return None

    def _read_on(self) -> None:
        while not self._all_read and self._held < HELD:
            row = next(self._wanted, None)
            if row is None:
                self._all_read = True
            else:
                self._held += 1
                self._put(Trip(row, row.url or ""))

    def _try_again(self) -> bool:
        """Begin another pass over what failed in passing; false where there is none."""
        if not self._again or self._tried >= self._params.retries:
            return False
        self._tried += 1
        for host in self._hosts.values():
            # One more silence, and it is dead again.
            host.silences = min(host.silences, SILENCES - 1)
        for origin in self._origins.values():
            if origin.rules is not None and origin.rules.refused is not None:
                origin.rules = None
        rows, self._again = self._again, []
        self._held += len(rows)
        for row in rows:
            self._put(Trip(row, row.url or ""))
        return True

    async def _wait(self, now: float) -> None:
        """Wait until something has come back or a host opens."""
        self._changed.clear()
        try:
            async with asyncio.timeout(self._later[0][0] - now if self._later else None):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _put(self, trip: Trip, first: bool = False) -> None:
        host, now = self._host(trip), asyncio.get_running_loop().time()
        if first:
            host.waiting.appendleft(trip)
        elif self._has_patience(host, 1):
            host.waiting.append(trip)
        else:
            self._too_slow(trip)
            return
        self._list(host, now)

    def _host(self, trip: Trip) -> Host:
        return self._host_of(trip.url)

    def _host_of(self, url: str) -> Host:
        name = host_of(url)
        if name not in self._hosts:
            self._hosts[name] = Host(self._pace_s)
        return self._hosts[name]

    def _list(self, host: Host, now: float) -> None:
        """Put a host where it belongs: among the ready ones, the later ones, or nowhere."""
        if host.listed or not host.waiting or host.asked >= self._limit(host):
            return
        host.listed = True
        if host.opens > now:
            heapq.heappush(self._later, (host.opens, next(self._number), host))
        else:
            self._ready.append(host)

    def _limit(self, host: Host) -> int:
        """Return how many requests a host may have at once: in trouble, one."""
        return 1 if host.silences or host.pleas else self._params.per_host.concurrency

    def _start(self, host: Host, now: float) -> Trip | None:
        """Take the next trip of a host that robots may make."""
        while host.waiting:
            trip = self._cleared(host.waiting.popleft())
            if trip is not None:
                host.asked += 1
                host.opens = max(host.opens, now) + host.pace_s
                return trip
        return None

    # -- robots ----------------------------------------------------------------------------------

    def _cleared(self, trip: Trip) -> Trip | None:
        """Return the trip, or the one for the robots.txt that it must wait for, or None."""
        if trip.row is None or not self._params.robots:
            return trip
        name = origin_of(trip.url)
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = Origin(KNOWN.get(name))
            if origin.rules is not None and origin.rules.delay_s:
                self._slow_down(self._host(trip), origin.rules.delay_s)
        if origin.rules is None:
            origin.parked.append(trip)
            if origin.asking:
                return None
            origin.asking = True
            return Trip(None, f"{name}/robots.txt", robots_of=name)
        if origin.rules.refused is not None:
            self._give_up(trip, origin.rules.refused)
        elif not origin.rules.admits(trip.url, self._product):
            self._give_up(trip, RefusedError("robots_disallowed"))
        else:
            return trip
        return None

    def _learn(self, trip: Trip, rules: Rules) -> None:
        """Take the rules of an origin, and let those go on that wait for them."""
        origin = self._origins[trip.robots_of]
        origin.rules, origin.asking = rules, False
        KNOWN.put(trip.robots_of, rules)
        parked, origin.parked = origin.parked, []
        host = self._host_of(trip.robots_of)
        if rules.delay_s > 0:
            self._slow_down(host, rules.delay_s)
        for waiting in reversed(parked):
            self._put(waiting, first=True)
        while not self._has_patience(host, 0):
            self._too_slow(host.waiting.pop())

    def _slow_down(self, host: Host, delay_s: float) -> None:
        """Ask a host no faster than it wishes."""
        host.pace_s = max(host.pace_s, delay_s)
        host.opens += delay_s

    def _has_patience(self, host: Host, more: int) -> bool:
        """Whether a host that is slower than it must be leaves time for its rows and some more."""
        if not host.waiting and not more:
            return True
        wait_s = host.opens - asyncio.get_running_loop().time()
        if host.pace_s > self._pace_s:
            wait_s = max(wait_s, (len(host.waiting) + more) * host.pace_s)
        return wait_s <= self._params.patience_s

    def _too_slow(self, trip: Trip) -> None:
        self._give_up(trip, RefusedError("host_too_slow", transient=True))

    # -- taking back -----------------------------------------------------------------------------

    def answered(self, trip: Trip, content: bytes = b"") -> None:
        """Take a trip back that ended well; `content` is that of robots.txt."""
        self._spoke(trip)
        if trip.row is None:
            self._learn(trip, parse_robots(content, self._product))
        else:
            self._held -= 1

    def redirected(self, trip: Trip, url: str) -> None:
        """Take a trip back that leads on to another (normalised) URL."""
        most = self._params.max_redirects if trip.row else ROBOTS_REDIRECTS
        if trip.hops >= most:
            self.refused(trip, RefusedError("too_many_redirects"))
            return
        self._spoke(trip)
        trip.url, trip.hops = url, trip.hops + 1
        self._put(trip, first=True)

    def refused(self, trip: Trip, error: RefusedError) -> None:
        """Take a trip back that failed."""
        if error.silent:
            self._kept_silent(trip, error)
        elif error.wait_s is not None:
            self._begged_off(trip, error.wait_s)
        else:
            self._spoke(trip)
        if trip.row is None:
            self._learn(trip, without_robots(error, trip.hops > 0))
        else:
            self._give_up(trip, error)

    def _give_up(self, trip: Trip, error: RefusedError) -> None:
        """Let a row go: to the next pass, if one may help, or for good."""
        if trip.row is None:
            self._learn(trip, without_robots(error, trip.hops > 0))
            return
        self._held -= 1
        if error.transient and self._tried < self._params.retries:
            self._again.append(trip.row)
        else:
            self._refused.append(Got(trip.row, reason=error.reason))

    def _spoke(self, trip: Trip) -> None:
        """Note that the host of a trip answered as it should."""
        host = self._host(trip)
        host.silences = host.pleas = 0
        self._back(host)

    def _begged_off(self, trip: Trip, wait_s: float) -> None:
        """Leave a host alone for as long as it asks, or for longer each time where it does not say."""
        host, now = self._host(trip), asyncio.get_running_loop().time()
        longer = min(_FIRST_WAIT_S * 2**host.pleas, _LONGEST_WAIT_S)
        wait_s = wait_s or longer * self._jitter.uniform(0.5, 1.0)
        host.silences, host.pleas = 0, min(host.pleas + 1, 16)
        host.opens = max(host.opens, now + wait_s)
        if wait_s > self._params.patience_s:
            while host.waiting:
                self._too_slow(host.waiting.pop())
        self._back(host)

    def _kept_silent(self, trip: Trip, error: RefusedError) -> None:
        host = self._host(trip)
        host.silences += 1
        if error.whole_host or host.silences >= SILENCES:
            reason = error.reason if error.whole_host else "host_unreachable"
            same = RefusedError(reason, transient=error.transient or not error.whole_host)
            while host.waiting:
                self._give_up(host.waiting.popleft(), same)
        self._back(host)

    def _back(self, host: Host) -> None:
        host.asked -= 1
        self._list(host, asyncio.get_running_loop().time())
        self._changed.set()
