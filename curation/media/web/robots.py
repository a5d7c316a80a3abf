"""Which requests a site permits: robots.txt (RFC 9309)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from protego import Protego

from curation.media.web.fetch_error import FetchError

MAX_ROBOTS_BYTES = 500 * 1024
"""Bytes of a robots.txt that are read (RFC 9309, section 2.5)."""
MAX_DELAY_S = 1e9
"""Seconds that stand for all longer delays."""
_FIELDS = {
    **dict.fromkeys(("user-agent", "useragent", "user agent"), "User-agent"),
    **dict.fromkeys(("crawl-delay", "crawl delay"), "Crawl-delay"),
    **dict.fromkeys(("request-rate", "request rate"), "Request-rate"),
    **dict.fromkeys(("visit-time", "visit time"), "Visit-time"),
    "allow": "Allow",
    **dict.fromkeys(
        ("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "Disallow"
    ),
    **dict.fromkeys(("sitemap", "sitemaps", "site-map", "host"), "Sitemap"),
}
"""The fields that protego reads, with its spellings. `Sitemap` stands for all that are of no group."""
_WORDS_OF_FIELD = (1, 2)


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
        text: the lines that count for the crawler, from which `read_rules` gives the same rules.
    """

    parsed: Protego | None = None
    error: FetchError | None = None
    delay_s: float = 0.0
    text: bytes = b""

    def allows(self, url: str, product: str) -> bool:
        """Whether the crawler with this product token may request `url`."""
        return self.parsed is None or bool(self.parsed.can_fetch(url, product))


def parse_robots(content: bytes, product: str) -> RobotsRules:
    """Return the rules of a robots.txt. Lines that are not valid are ignored.

    Only what counts for the crawler is kept: each group may name thousands of others.
    """
    return read_rules(_group_of(content.decode("utf-8-sig", "replace"), product).encode())


def read_rules(text: bytes) -> RobotsRules:
    """Return the rules of a robots.txt that has one group, for all robots."""
    if not text:
        return RobotsRules()
    parsed = Protego.parse(text.decode())
    delay = parsed.crawl_delay("*") or 0.0
    rate = parsed.request_rate("*")
    if rate is not None and rate.requests:
        # Their quotient may be too large for a float.
        delay = max(delay, min(rate.seconds, math.ceil(MAX_DELAY_S)) / rate.requests)
    return RobotsRules(parsed, delay_s=min(float(delay), MAX_DELAY_S), text=text)


def _group_of(content: str, product: str) -> str:
    """Return the group of a robots.txt for `product` as one for all robots; empty if there is none."""
    groups: dict[str, list[str]] = {}
    names: list[str] = []
    last = ""
    for line in content.splitlines():
        field, value = _directive(line.split("#", 1)[0].strip())
        if field == "User-agent":
            names = names if last == field else []
            names += (n for n in _agents(value) if _applies(n, product) and n not in names)
            groups |= {name: [] for name in names if name not in groups}
        elif value and field in _FIELDS.values() and field != "Sitemap":
            for name in names:
                groups[name].append(f"{field}: {value}")
        last = last if field in ("", "Sitemap") else field
    lines = groups[max(groups, key=_score)] if groups else []
    return "\n".join(["User-agent: *", *lines]) if lines else ""


def _directive(line: str) -> tuple[str, str]:
    """Return the field and the value of a line as protego reads them.

    The field is empty if there is none, and `?` if it is unknown.
    """
    name, colon, value = line.partition(":")
    field = _FIELDS.get(name.strip().lower())
    if colon and field is not None:
        return field, value.strip()
    if colon and (not value or value[0].isspace()):
        return "?", value.strip()
    words = line.split()
    for count in _WORDS_OF_FIELD:
        field = _FIELDS.get(" ".join(words[:count]).lower())
        if field is not None:
            return field, " ".join(words[count:])
    return ("?" if colon else ""), ""


def _agents(value: str) -> list[str]:
    """Return the names of a line `User-agent`: with its wildcards, and without them."""
    name = value.lower()
    return [n for n in dict.fromkeys((name, name if name == "*" else name.replace("*", ""))) if n]


def _applies(name: str, product: str) -> bool:
    """Whether a group with this name is for `product`: it is a part of it that begins a word."""
    if name == "*":
        return True
    starts = (at for at in range(len(product)) if product.startswith(name, at))
    return any(
        not at or not (product[at - 1].isalnum() or product[at - 1] in "-_") for at in starts
    )


def _score(name: str) -> int:
    return 1 if name == "*" else len(name)


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
    of_rows = FetchError(error.reason, transient=error.transient, detail=error.detail)
    return RobotsRules(error=of_rows)
