"""What a fetch knows of each host and origin."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum

from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.request import HttpRequest

MAX_IDLE_HOSTS = 10_000
"""Hosts without requests of which something is remembered, such as that they did not answer."""


def origin_of(url: str) -> str:
    """Return scheme, host and port of a normalised URL."""
    return "/".join(url.split("/", 3)[:3])


class Standing(Enum):
    """What is known of the speed of a host, for its next request."""

    PROMPT = "it answers within seconds"
    NEW = "it has not answered yet, and is asked for nothing else"
    SLOW = "it takes longer, did not answer, or is asked for more before its first answer"


@dataclass(slots=True, eq=False)
class Origin:
    """The robots.txt of an origin. Its rules are in the cache of the process.

    Attributes:
        error: why no URL of the origin may be requested.
        requested: robots.txt is being requested, or its rules are being applied.
        blocked: requests that wait for the rules.
        spent_s: processor time that its rules have taken.
    """

    error: FetchError | None = None
    requested: bool = False
    blocked: deque[HttpRequest] = field(default_factory=deque)
    spent_s: float = 0.0


@dataclass(slots=True, eq=False)
class Host:
    """The queue of a host, and the limits on its requests.

    Attributes:
        name: as URLs write it.
        interval_s: seconds between the starts of two requests.
        resolved: its name has an address, or is one.
        looked_up: its name is being looked up.
        queue: requests that wait.
        origins: its origins that were requested.
        in_flight: number of requests that are running.
        not_before: loop time before which no further request may start.
        asked_until: loop time until which the host itself asked for a pause.
        answers: successive rows that got a response.
        slow: its last request took long.
        unanswered: successive requests without a response.
        backoffs: successive responses that asked for a pause (429, 503).
        turn: number of its turn, if it is among the ready or the delayed ones; otherwise 0.
        queued: its standing when it got this number.
    """

    name: str
    interval_s: float
    resolved: bool
    looked_up: bool = False
    queue: deque[HttpRequest] = field(default_factory=deque)
    origins: dict[str, Origin] = field(default_factory=dict)
    in_flight: int = 0
    not_before: float = 0.0
    asked_until: float = 0.0
    answers: int = 0
    slow: bool = False
    unanswered: int = 0
    backoffs: int = 0
    turn: int = 0
    queued: Standing = Standing.NEW

    @property
    def standing(self) -> Standing:
        """What is known of its speed."""
        if self.slow or self.unanswered:
            return Standing.SLOW
        if self.answers:
            return Standing.PROMPT
        return Standing.SLOW if self.in_flight else Standing.NEW

    @property
    def idle(self) -> bool:
        """Whether no request waits, runs, or is blocked."""
        waiting = self.queue or self.in_flight or self.looked_up
        return not waiting and not any(origin.requested for origin in self.origins.values())


class Hosts:
    """The hosts of a fetch by name; those that are idle longest are forgotten.

    Args:
        interval_s: seconds between two requests to one host, as the recipe sets them.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._hosts: dict[str, Host] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()

    def __getitem__(self, name: str) -> Host:
        self._idle.pop(name, None)
        if name not in self._hosts:
            self._hosts[name] = Host(name, self._interval_s, resolved=_is_address(name))
        return self._hosts[name]

    def __len__(self) -> int:
        return len(self._hosts)

    def all(self) -> list[Host]:
        """Return all hosts that are known."""
        return list(self._hosts.values())

    def put_aside(self, host: Host) -> None:
        """Note that a host may be idle; forget the host that is idle longest, if there are many."""
        if host.idle:
            self._idle[host.name] = None
        while len(self._idle) > MAX_IDLE_HOSTS:
            name, _ = self._idle.popitem(last=False)
            if self._hosts[name].idle:
                del self._hosts[name]


def _is_address(name: str) -> bool:
    """Whether a host of a normalised URL is an address: no name has a last label of digits."""
    return name.startswith("[") or name.rsplit(".", 1)[-1].isdigit()
