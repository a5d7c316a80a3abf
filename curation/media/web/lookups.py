"""Look-ups of names, so that a name server that does not answer delays only its names.

Each look-up has a thread, since the system's resolver cannot be stopped: one that has passed its
deadline runs on, and counts against its domain until it ends. All else runs in one event loop.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from curation.media.web.domains import domain_of
from curation.media.web.fetch_error import FetchError, unforeseen

PER_DOMAIN = 4
"""Look-ups of names of one domain at the same time."""
MAX_MISSED = 4
"""Successive look-ups of a domain without an answer after which its other names are given up."""
MAX_FRESH = 64
"""Look-ups at the same time that have run for less than LATE_S."""
LATE_S = 1.0
"""Seconds after which a look-up no longer keeps others from starting."""
MAX_THREADS = 512
"""Look-ups at the same time, with those that have passed their deadline."""
MAX_ADDRESSES = 16
"""Addresses of a name that are used."""
MAX_CACHED = 20_000
"""Names whose addresses are kept, and domains whose failures are."""
CACHED_S = 300.0
"""Seconds for which the answer for a name is kept."""


class ResolvedAddress(NamedTuple):
    """An address of a name: its family, its protocol and its text."""

    family: int
    protocol: int
    text: str


Addresses = tuple[ResolvedAddress, ...]


class UnansweredDomainError(OSError):
    """The name servers of a domain have not answered for other names."""


def lookup_error(error: Exception) -> FetchError:
    """Return the error of the rows of a host whose name was not resolved.

    Raises:
        CurationError, MemoryError: the host is not the cause of the error.
    """
    if isinstance(error, TimeoutError):
        return FetchError("timeout", transient=True, unanswered=True)
    if isinstance(error, UnansweredDomainError):
        return FetchError("host_unreachable", transient=True, unanswered=True)
    if not isinstance(error, OSError):
        return unforeseen(error)
    # A name may resolve later only if the resolver failed, or this machine, as by too many open files.
    if isinstance(error, socket.gaierror):
        busy = error.errno == socket.EAI_AGAIN
    else:
        busy = error.errno is not None
    return FetchError("dns_error", transient=busy, unanswered=True, whole_host=not busy)


@dataclass(slots=True, eq=False)
class _Domain:
    waiting: deque[_Lookup] = field(default_factory=deque)
    running: int = 0
    missed: int = 0
    ready: bool = False


@dataclass(slots=True, eq=False)
class _Lookup:
    host: str
    domain: _Domain
    answer: asyncio.Future[Addresses]
    fresh: bool = True
    timers: tuple[asyncio.TimerHandle, ...] = ()


class Lookups:
    """Resolves names with the system's resolver, within limits for each domain.

    Args:
        deadline_s: seconds that a look-up may take, once it has started.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._answers: OrderedDict[str, tuple[float, Addresses | OSError]] = OrderedDict()
        self._pending: dict[str, _Lookup] = {}
        self._domains: OrderedDict[str, _Domain] = OrderedDict()
        self._ready: deque[_Domain] = deque()
        self._fresh = self._running = 0

    async def addresses(self, host: str) -> Addresses:
        """Return the addresses of a name.

        Raises:
            OSError: it has none (`lookup_error` says what this means for its rows).
        """
        # Others may wait for the same answer.
        return await asyncio.shield(self.find(host))

    def find(self, host: str) -> asyncio.Future[Addresses]:
        """Return the answer for a name, which may not be known yet.

        Its exception is an OSError, or one that nothing foresaw; `lookup_error` says what it means.
        """
        if host in self._pending:
            return self._pending[host].answer
        answer: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        expires, known = self._answers.get(host, (0.0, ()))
        domain = self._domain(host)
        if expires > time.monotonic():
            # An error that is raised again keeps the frames that it passed, so it is made anew.
            kind = socket.gaierror if isinstance(known, socket.gaierror) else OSError
            _set(answer, kind(*known.args) if isinstance(known, OSError) else known)
        elif domain.missed >= MAX_MISSED:
            _set(answer, UnansweredDomainError(None, f"{host}: its domain does not answer"))
        else:
            lookup = self._pending[host] = _Lookup(host, domain, answer)
            domain.waiting.append(lookup)
            self._make_ready(domain)
            self._start()
        return answer

    def forgive(self) -> None:
        """Ask the domains again that were given up: one more miss, and they are given up again."""
        for domain in self._domains.values():
            domain.missed = min(domain.missed, MAX_MISSED - 1)

    def _domain(self, host: str) -> _Domain:
        name = domain_of(host)
        domain = self._domains.pop(name, None) or _Domain()
        self._domains[name] = domain
        while len(self._domains) > MAX_CACHED:
            self._domains.popitem(last=False)
        return domain

    def _make_ready(self, domain: _Domain) -> None:
        if domain.waiting and domain.running < PER_DOMAIN and not domain.ready:
            domain.ready = True
            self._ready.append(domain)

    def _start(self) -> None:
        """Start the look-ups that may run, one domain after the other."""
        while self._ready and self._fresh < MAX_FRESH and self._running < MAX_THREADS:
            domain = self._ready.popleft()
            domain.ready = False
            if domain.waiting:
                self._run(domain.waiting.popleft())
                self._make_ready(domain)

    def _run(self, lookup: _Lookup) -> None:
        self._fresh, self._running = self._fresh + 1, self._running + 1
        lookup.domain.running += 1
        loop = asyncio.get_running_loop()
        lookup.timers = (
            loop.call_later(LATE_S, self._grow_late, lookup),
            loop.call_later(self._deadline_s, self._expire, lookup),
        )
        # The exit of the process does not wait for a daemon.
        thread = threading.Thread(target=self._resolve, args=(lookup, loop), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            error = socket.gaierror(socket.EAI_AGAIN, "no thread for a look-up")
            loop.call_soon(self._end, lookup, error)

    def _resolve(self, lookup: _Lookup, loop: asyncio.AbstractEventLoop) -> None:
        """Ask the system's resolver, in a thread."""
        answer: Addresses | Exception
        try:
            rows = socket.getaddrinfo(lookup.host, 0, socket.AF_UNSPEC, socket.SOCK_STREAM)
            answer = tuple(ResolvedAddress(r[0], r[2], str(r[4][0])) for r in rows[:MAX_ADDRESSES])
        except UnicodeError as error:
            answer = OSError(None, f"{lookup.host!r} is not a host name: {error}")
        except Exception as error:
            answer = error
        # The loop may have ended long ago.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._end, lookup, answer)

    def _end(self, lookup: _Lookup, answer: Addresses | Exception) -> None:
        """Take back the thread of a look-up, with its answer."""
        for timer in lookup.timers:
            timer.cancel()
        self._running -= 1
        lookup.domain.running -= 1
        if not lookup.answer.done():
            unanswered = isinstance(answer, OSError) and lookup_error(answer).transient
            lookup.domain.missed = lookup.domain.missed + 1 if unanswered else 0
            if not unanswered and (
                isinstance(answer, OSError) or not isinstance(answer, Exception)
            ):
                self._keep(lookup.host, answer)
            self._give(lookup, answer)
        self._grow_late(lookup)
        self._make_ready(lookup.domain)
        self._start()

    def _grow_late(self, lookup: _Lookup) -> None:
        if lookup.fresh:
            lookup.fresh = False
            self._fresh -= 1
            self._start()

    def _expire(self, lookup: _Lookup) -> None:
        lookup.domain.missed += 1
        self._give(lookup, TimeoutError())

    def _give(self, lookup: _Lookup, answer: Addresses | Exception) -> None:
        domain = lookup.domain
        self._pending.pop(lookup.host, None)
        _set(lookup.answer, answer)
        while domain.missed >= MAX_MISSED and domain.waiting:
            other = domain.waiting.popleft()
            del self._pending[other.host]
            _set(other.answer, UnansweredDomainError(None, f"{other.host}: no answer"))

    def _keep(self, host: str, answer: Addresses | OSError) -> None:
        self._answers[host] = (time.monotonic() + CACHED_S, answer)
        self._answers.move_to_end(host)
        while len(self._answers) > MAX_CACHED:
            self._answers.popitem(last=False)


def _set(future: asyncio.Future[Addresses], answer: Addresses | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
        # An answer that nobody asks for is no error.
        future.exception()
    else:
        future.set_result(answer)
