"""Rules for paths: patterns of robots.txt, of which the longest that matches decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from curation.media.web.opt_outs.signals import ROBOTS, OptOut
from curation.media.web.urls import normal_path

_WILDCARDS = re.compile(r"\*+")


class PathRule(NamedTuple):
    """What one line says of the paths that match a pattern.

    Attributes:
        pattern: how these paths begin, with `*` for anything and `$` for their end; normalised.
        forbids: whether it forbids their use.
        text: the line.
    """

    pattern: str
    forbids: bool
    text: str


class _Matcher(NamedTuple):
    parts: tuple[str, ...]
    to_end: bool

    def matches(self, path: str) -> bool:
        """Whether a path matches. Each part is looked for once, so no pattern takes long."""
        first, *others = self.parts
        if not path.startswith(first):
            return False
        at = len(first)
        if not others:
            return not self.to_end or at == len(path)
        *middle, last = others
        for part in middle:
            at = path.find(part, at)
            if at < 0:
                return False
            at += len(part)
        if self.to_end:
            return len(path) - len(last) >= at and path.endswith(last)
        return path.find(last, at) >= 0


@dataclass(frozen=True)
class RuleSet:
    """Rules of one signal at one place.

    Attributes:
        signal: that they give.
        place: where they stand.
        label: what stands before the text of each, as the name of the crawler.
        rules: the rules in any order.
    """

    signal: str
    place: str
    label: str
    rules: tuple[PathRule, ...]

    def opt_out(self, path: str) -> OptOut | None:
        """Return what forbids the use of a path and its query, or None if nothing does.

        The longest pattern decides. Of equal ones, the one that allows does in a robots.txt (RFC 9309,
        section 2.2.2), and otherwise the one that forbids.
        """
        for matcher, rule in self._ordered:
            if matcher.matches(path):
                opt_out = OptOut(self.signal, self.place, f"{self.label}{rule.text}")
                return opt_out if rule.forbids else None
        return None

    @cached_property
    def _ordered(self) -> list[tuple[_Matcher, PathRule]]:
        last = self.signal == ROBOTS
        ordered = sorted(self.rules, key=lambda r: (-len(r.pattern), r.forbids == last))
        return [(_matcher(rule.pattern), rule) for rule in ordered]


def path_of(url: str) -> str:
    """Return path and query of a normalised URL."""
    return f"/{url.split('/', 3)[3]}"


def pattern_of(text: str) -> str:
    """Return a pattern in the form in which normalised URLs have their paths."""
    return normal_path(text)


def _matcher(pattern: str) -> _Matcher:
    to_end = pattern.endswith("$")
    return _Matcher(tuple(_WILDCARDS.split(pattern.removesuffix("$"))), to_end)
