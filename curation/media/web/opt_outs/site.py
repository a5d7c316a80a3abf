"""What a site says in its files: robots.txt, the file of TDMRep, and a licence of RSL."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from curation.media.web.fetch_error import FetchError
from curation.media.web.opt_outs import robots_txt, tdmrep
from curation.media.web.opt_outs.path_rules import PathRule, RuleSet, path_of
from curation.media.web.opt_outs.policy import OptOutPolicy
from curation.media.web.opt_outs.rsl import read_rsl
from curation.media.web.opt_outs.signals import ROBOTS, OptOut
from curation.media.web.urls import InvalidURLError, host_of, join

TDMREP, RSL = "tdmrep", "rsl"
MAX_LICENSE = 2048
"""Characters of the address of a licence; a longer one is ignored."""
MAX_FILE_BYTES = robots_txt.MAX_BYTES
"""Bytes of each file that are read."""
_ABSENT = re.compile(r"http_[34]\d\d")
"""Statuses that say that there is no such file."""


@dataclass(frozen=True)
class SiteRules:
    """What the files of an origin (scheme, host and port) say.

    Attributes:
        sets: its rules; without any, every URL is permitted.
        delay_s: smallest time between two requests that robots.txt asks for, in seconds.
        licenses: addresses of the licences that robots.txt names.
        error: why no URL of the origin may be requested, if robots.txt could not be read (RFC 9309,
            section 2.3.1.4).
    """

    sets: tuple[RuleSet, ...] = ()
    delay_s: float = 0.0
    licenses: tuple[str, ...] = ()
    error: FetchError | None = None

    @property
    def license(self) -> str | None:
        """The address of the first licence."""
        return self.licenses[0] if self.licenses else None

    def opt_out(self, url: str) -> OptOut | None:
        """Return what forbids to request a normalised URL or to use its image, or None."""
        path = path_of(url)
        return next((o for s in self.sets if (o := s.opt_out(path)) is not None), None)

    @cached_property
    def text(self) -> bytes:
        """A text from which `read_rules` gives the same rules; empty if there are none."""
        if self == SiteRules():
            return b""
        sets = [[s.signal, s.place, s.label, s.rules] for s in self.sets]
        return json.dumps([sets, self.delay_s, self.licenses]).encode()


class SiteFile(NamedTuple):
    """A file of a site that is read before its images.

    Attributes:
        kind: ROBOTS, TDMREP or RSL.
        url: its address, normalised.
    """

    kind: str
    url: str


def read_rules(text: bytes) -> SiteRules:
    """Return the rules of `SiteRules.text`."""
    if not text:
        return SiteRules()
    sets, delay_s, licenses = json.loads(text)
    return SiteRules(tuple(_rule_set(*of_set) for of_set in sets), delay_s, tuple(licenses))


def _rule_set(signal: str, place: str, label: str, rules: list[list[Any]]) -> RuleSet:
    return RuleSet(signal, place, label, tuple(PathRule(*rule) for rule in rules))


def first_file(origin: str, policy: OptOutPolicy) -> SiteFile | None:
    """Return the file of an origin that is read first, or None if a recipe reads none."""
    if policy.robots:
        return SiteFile(ROBOTS, f"{origin}/robots.txt")
    return SiteFile(TDMREP, f"{origin}{tdmrep.PATH}") if TDMREP in policy.signals else None


def next_file(
    file: SiteFile, origin: str, rules: SiteRules, policy: OptOutPolicy
) -> SiteFile | None:
    """Return the file that is read after another one, or None after the last.

    Args:
        file: that was read, or could not be read.
        origin: scheme, host and port of the site.
        rules: of the site, as far as they are known. What its robots.txt forbids is not requested.
        policy: which signals count.
    """
    if rules.error is not None:
        return None
    following = []
    if file.kind == ROBOTS and TDMREP in policy.signals:
        following.append(SiteFile(TDMREP, f"{origin}{tdmrep.PATH}"))
    if RSL in policy.signals:
        licenses = [SiteFile(RSL, url) for url in rules.licenses]
        following += licenses[licenses.index(file) + 1 :] if file.kind == RSL else licenses
    return next((each for each in following if _may_request(each, origin, rules)), None)


def _may_request(file: SiteFile, origin: str, rules: SiteRules) -> bool:
    if not file.url.startswith(f"{origin}/"):
        return True
    path = path_of(file.url)
    return not any(s.signal == ROBOTS and s.opt_out(path) for s in rules.sets)


def read_site_file(
    file: SiteFile, content: bytes, known: SiteRules, policy: OptOutPolicy, origin: str
) -> SiteRules:
    """Return the rules of a site with those of one more file.

    Args:
        file: where the file stands.
        content: the file, not trusted.
        known: what the files before it say.
        policy: which signals count.
        origin: scheme, host and port of the site.
    """
    if file.kind == ROBOTS:
        return _read_robots(file, content, policy)
    added = (
        tdmrep.read_tdmrep(content, file.url)
        if file.kind == TDMREP
        else read_rsl(content, file.url, host_of(origin))
    )
    return known if added is None else replace(known, sets=(*known.sets, added))


def _read_robots(file: SiteFile, content: bytes, policy: OptOutPolicy) -> SiteRules:
    robots = robots_txt.read_robots(content, file.url, policy.product, policy.others)
    counted = tuple(s for s in robots.sets if s.signal == ROBOTS or s.signal in policy.signals)
    return SiteRules(counted, robots.delay_s, _licenses(file.url, robots.licenses))


def _licenses(base: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses that can be requested, each once, without looking at what they hold."""
    addresses: dict[str, None] = {}
    for name in names:
        if len(name) <= MAX_LICENSE:
            with suppress(InvalidURLError):
                addresses[join(base, name)] = None
    return tuple(addresses)


def rules_after_failure(
    file: SiteFile, known: SiteRules, error: FetchError, redirected: bool
) -> SiteRules:
    """Return the rules of a site of which a file could not be read.

    Without its robots.txt, a server error allows nothing (RFC 9309, section 2.3.1), nor does a status
    that HTTP does not know, and a robots.txt that does not exist allows everything. Other files say
    nothing if they cannot be read.

    Args:
        file: that could not be read.
        known: what the files before it say.
        error: why it could not be read.
        redirected: whether the failed request followed a redirect.
    """
    if file.kind != ROBOTS:
        return known
    if _ABSENT.fullmatch(error.reason) and error.reason != "http_429":
        return SiteRules()
    if error.reason in ("too_many_redirects", "bad_redirect"):
        return SiteRules()
    if error.reason.startswith("http_") or error.reason == "bad_response" or redirected:
        return SiteRules(error=FetchError("robots_unreachable", transient=True))
    return SiteRules(error=FetchError(error.reason, transient=error.transient, detail=error.detail))
