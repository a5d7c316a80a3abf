"""What a fetch knows of each host and origin."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from curation.media.web.robots import RobotsRules
from curation.stages.fetch.request import HttpRequest


def origin_of(url: str) -> str:
    """Return scheme, host and port of a normalised URL."""
    return "/".join(url.split("/", 3)[:3])


@dataclass(slots=True, eq=False)
class Origin:
    """The robots.txt of an origin.

    Attributes:
        rules: None until they are known.
        requested: robots.txt is being requested.
        blocked: requests that wait for the rules.
    """

    rules: RobotsRules | None = None
    requested: bool = False
    blocked: list[HttpRequest] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Host:
    """The queue of a host, and the limits on its requests.

    Attributes:
        interval_s: seconds between the starts of two requests.
        queue: requests that wait.
        in_flight: number of requests that are running.
        not_before: loop time before which no further request may start.
        asked_until: loop time until which the host itself asked for a pause.
        unanswered: successive requests without a response.
        backoffs: successive responses that asked for a pause (429, 503).
        scheduled: the host is among the ready or the delayed ones.
    """

    interval_s: float
    queue: deque[HttpRequest] = field(default_factory=deque)
    in_flight: int = 0
    not_before: float = 0.0
    asked_until: float = 0.0
    unanswered: int = 0
    backoffs: int = 0
    scheduled: bool = False
