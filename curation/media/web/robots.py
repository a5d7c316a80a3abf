"""What a site asks of robots: robots.txt (RFC 9309) and opt-out headers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from multidict import CIMultiDictProxy
from protego import Protego

from curation.media.web.refusal import RefusedError

ROBOTS_BYTES = 500 * 1024
"""What of a robots.txt is read (RFC 9309, section 2.5)."""
KEPT = 20_000
"""Origins whose rules a process keeps."""
KEPT_S = 24 * 3600
"""Seconds for which it keeps them (section 2.4)."""
_VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


def product_of(user_agent: str) -> str:
    """Return the name by which sites call a robot: the user agent up to its version."""
    return user_agent.split("/", 1)[0].split(" ", 1)[0].lower()


@dataclass(frozen=True)
class Rules:
    """The robots.txt of an origin; without one everything may be asked.

    `refused` says why nothing may be asked where robots.txt could not be had (section 2.3.1.4);
    `delay_s` are the seconds between two requests that it asks for.
    """

    parsed: Protego | None = None
    refused: RefusedError | None = None
    delay_s: float = 0.0

    def admits(self, url: str, product: str) -> bool:
        """Whether `url` may be asked."""
        return self.parsed is None or bool(self.parsed.can_fetch(url, product))


def parse_robots(content: bytes, product: str) -> Rules:
    """Return the rules of a robots.txt; what of it makes no sense is passed over."""
    parsed = Protego.parse(content.decode("utf-8-sig", "replace"))
    delay = parsed.crawl_delay(product) or 0.0
    rate = parsed.request_rate(product)
    if rate is not None and rate.requests:
        delay = max(delay, rate.seconds / rate.requests)
    return Rules(parsed, delay_s=float(delay))


def without_robots(refused: RefusedError, redirected: bool) -> Rules:
    """Return the rules of an origin whose robots.txt was `refused`, perhaps after a redirect.

    Where it does not exist everything may be asked; where the server fails nothing may (section 2.3.1).
    """
    status = refused.reason.removeprefix("http_")
    if status != refused.reason and status != "429" and not status.startswith("5"):
        return Rules()
    if refused.reason in ("too_many_redirects", "bad_redirect"):
        return Rules()
    if refused.reason.startswith("http_") or refused.reason == "bad_response" or redirected:
        return Rules(refused=RefusedError("robots_unreachable", transient=True))
    return Rules(refused=RefusedError(refused.reason, transient=refused.transient))


class Known:
    """Rules by origin, of this process: tasks that follow each other need not ask again."""

    def __init__(self) -> None:
        self._rules: OrderedDict[str, tuple[float, Rules]] = OrderedDict()

    def get(self, origin: str) -> Rules | None:
        """Return the rules of an origin, if they are known and not too old."""
        found = self._rules.get(origin)
        return found[1] if found and found[0] > time.monotonic() else None

    def put(self, origin: str, rules: Rules) -> None:
        """Keep the rules of an origin; that they could not be had is soon untrue and not kept."""
        if rules.refused is None:
            self._rules[origin] = (time.monotonic() + KEPT_S, rules)
            while len(self._rules) > KEPT:
                self._rules.popitem(last=False)


KNOWN = Known()


def opted_out(headers: CIMultiDictProxy[str], product: str, tokens: Iterable[str]) -> bool:
    """Whether a response says that its picture is not to be used.

    Args:
        headers: of the response: X-Robots-Tag, for all robots or for `product`, and tdm-reservation
            (W3C TDM Reservation Protocol).
        product: what we are called.
        tokens: directives of X-Robots-Tag that say no; without any, no header is looked at.
    """
    tokens = set(tokens)
    if not tokens:
        return False
    if headers.get("tdm-reservation", "").strip() == "1":
        return True
    said = (_directives(value, product) for value in headers.getall("X-Robots-Tag", ()))
    return any(not own.isdisjoint(tokens) for own in said)


def _directives(value: str, product: str) -> set[str]:
    """Return the directives of one header that are for all robots or for `product`."""
    found, ours = set(), True
    for part in value.lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() not in _VALUED:
            # A name of a robot, for whom all that follows is.
            ours, name = name.strip() == product, rest
        if ours:
            found.add(name.strip())
    return found
