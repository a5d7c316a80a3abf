"""Which requests a site permits: robots.txt (RFC 9309) and opt-out headers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from multidict import CIMultiDictProxy
from protego import Protego

from curation.media.web.fetch_error import FetchError

MAX_ROBOTS_BYTES = 500 * 1024
"""Bytes of a robots.txt that are read (RFC 9309, section 2.5)."""
CACHE_SIZE = 20_000
"""Origins whose rules a process caches."""
CACHE_TTL_S = 24 * 3600
"""Seconds for which it caches them (RFC 9309, section 2.4)."""
_DIRECTIVES_WITH_VALUE = (
    "unavailable_after",
    "max-snippet",
    "max-image-preview",
    "max-video-preview",
)


def product_of(user_agent: str) -> str:
    """Return the product token of a User-Agent (RFC 9309, section 2.2.1): the name before the `/`."""
    return user_agent.split("/", 1)[0].split(" ", 1)[0].lower()


@dataclass(frozen=True)
class RobotsRules:
    """The robots.txt of an origin (scheme, host and port).

    Attributes:
        parsed: the rules; None allows every URL.
        error: why no URL of the origin may be requested, if robots.txt could not be read (RFC 9309,
            section 2.3.1.4).
        delay_s: smallest time between two requests that robots.txt asks for, in seconds.
    """

    parsed: Protego | None = None
    error: FetchError | None = None
    delay_s: float = 0.0

    def allows(self, url: str, product: str) -> bool:
        """Whether the crawler with this product token may request `url`."""
        return self.parsed is None or bool(self.parsed.can_fetch(url, product))


def parse_robots(content: bytes, product: str) -> RobotsRules:
    """Return the rules of a robots.txt. Lines that are not valid are ignored."""
    parsed = Protego.parse(content.decode("utf-8-sig", "replace"))
    delay = parsed.crawl_delay(product) or 0.0
    rate = parsed.request_rate(product)
    if rate is not None and rate.requests:
        delay = max(delay, rate.seconds / rate.requests)
    return RobotsRules(parsed, delay_s=float(delay))


def rules_after_failure(error: FetchError, redirected: bool) -> RobotsRules:
    """Return the rules of an origin whose robots.txt could not be read (RFC 9309, section 2.3.1).

    A robots.txt that does not exist allows everything; a server error allows nothing.

    Args:
        error: why robots.txt could not be read.
        redirected: whether the failed request followed a redirect.
    """
    status = error.reason.removeprefix("http_")
    if status != error.reason and status != "429" and not status.startswith("5"):
        return RobotsRules()
    if error.reason in ("too_many_redirects", "bad_redirect"):
        return RobotsRules()
    if error.reason.startswith("http_") or error.reason == "bad_response" or redirected:
        return RobotsRules(error=FetchError("robots_unreachable", transient=True))
    return RobotsRules(error=FetchError(error.reason, transient=error.transient))


class RobotsCache:
    """Rules by origin, shared by the tasks of a process that run one after the other."""

    def __init__(self) -> None:
        self._rules: OrderedDict[str, tuple[float, RobotsRules]] = OrderedDict()

    def get(self, origin: str) -> RobotsRules | None:
        """Return the rules of an origin, or None if they are not cached or too old."""
        expires, rules = self._rules.get(origin, (0.0, None))
        return rules if expires > time.monotonic() else None

    def put(self, origin: str, rules: RobotsRules) -> None:
        """Cache the rules of an origin, unless its robots.txt could not be read."""
        if rules.error is None:
            self._rules[origin] = (time.monotonic() + CACHE_TTL_S, rules)
            while len(self._rules) > CACHE_SIZE:
                self._rules.popitem(last=False)


ROBOTS_CACHE = RobotsCache()


def opted_out(headers: CIMultiDictProxy[str], product: str, directives: Iterable[str]) -> bool:
    """Whether the headers of a response forbid the use of its image.

    Args:
        headers: of the response. X-Robots-Tag counts if it is for all robots or for `product`, and
            tdm-reservation (W3C TDM Reservation Protocol) if it is 1.
        product: product token of the crawler.
        directives: directives of X-Robots-Tag that forbid the use; without any, headers are ignored.
    """
    forbidding = set(directives)
    if not forbidding:
        return False
    if headers.get("tdm-reservation", "").strip() == "1":
        return True
    tags = headers.getall("X-Robots-Tag", ())
    return any(not _directives(tag, product).isdisjoint(forbidding) for tag in tags)


def _directives(tag: str, product: str) -> set[str]:
    """Return the directives of one X-Robots-Tag that are for all robots or for `product`."""
    directives, applies = set(), True
    for part in tag.lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() not in _DIRECTIVES_WITH_VALUE:
            # The name of a robot; the directives that follow are for that robot.
            applies, name = name.strip() == product, rest
        if applies:
            directives.add(name.strip())
    return directives
