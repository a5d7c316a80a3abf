"""Reads robots.txt (RFC 9309), with the usage preferences and licences that it names.

Groups and rules are read as Google's matcher reads them. It differs in this: names of crawlers may have
digits and dots, patterns are normalised as URLs are, and UTF-16 is read.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from curation.media.web.opt_outs.path_rules import PathRule, RuleSet, pattern_of
from curation.media.web.opt_outs.signals import ROBOTS
from curation.media.web.opt_outs.usage import FIELDS, forbids_training, split_path

MAX_BYTES = 500 * 1024
"""Bytes of a robots.txt that are read (RFC 9309, section 2.5)."""
MAX_DELAY_S = 1e9
"""Seconds that stand for all longer delays."""
MAX_LICENSES = 5
_MAX_LINE = 2083 * 8 - 1
_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPACE = " \t\n\v\f\r"
_BREAKS = re.compile(r"\r\n|\n|\r")
_STARTS = {
    **dict.fromkeys(("user-agent", "useragent", "user agent"), "user-agent"),
    "allow": "allow",
    **dict.fromkeys(
        ("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"
    ),
}
"""How fields begin that Google's matcher reads, with its spellings."""
_OTHERS = {
    **dict.fromkeys(("crawl-delay", "crawl delay", "crawldelay"), "crawl-delay"),
    **dict.fromkeys(("request-rate", "request rate"), "request-rate"),
    **{field: field for field in (*FIELDS, "license")},
}
_ALL = "*"
_AGENT = re.compile(r"[A-Za-z0-9_.-]*")
_INDEX = "/index.htm"
_RATE = re.compile(r"(\d{1,4000})\s*/\s*(\d{1,4000})\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Line = tuple[str, str]
"""Field and value of a line."""


class RobotsTxt(NamedTuple):
    """What a robots.txt says.

    Attributes:
        sets: rules of its groups.
        delay_s: smallest time between two requests that it asks of the crawler, in seconds.
        licenses: addresses of licences, as they stand there.
    """

    sets: tuple[RuleSet, ...]
    delay_s: float
    licenses: tuple[str, ...]


def product_of(user_agent: str) -> str:
    """Return the product token of a User-Agent (RFC 9309, section 2.2.1): the name before the `/`."""
    return user_agent.split("/", 1)[0].split(" ", 1)[0].lower()


def read_robots(content: bytes, place: str, product: str, others: Sequence[str]) -> RobotsTxt:
    """Return what a robots.txt says. Lines that are not valid are ignored.

    Args:
        content: the file, not trusted.
        place: its address.
        product: product token of the crawler, in lower case. If no group has its name, the group for
            all crawlers is for it.
        others: names of other crawlers whose groups count too, in lower case.
    """
    groups, licenses = _read_groups(content, {product, *others})
    group = _ALL if product not in groups else product
    names = [group, *(name for name in others if name != group and name in groups)]
    sets = [s for name in names for s in _rule_sets(name, groups.get(name, []), place)]
    return RobotsTxt(tuple(sets), _delay(groups.get(group, [])), licenses)


def _read_groups(content: bytes, names: set[str]) -> tuple[dict[str, list[Line]], tuple[str, ...]]:
    """Return the lines of the groups with some names, and of that for all; and the licences."""
    # Usage preferences before the first group are for all crawlers.
    groups: dict[str, list[Line]] = {}
    before: list[Line] = []
    current: set[str] = set()
    licenses: list[str] = []
    has_rules = is_in_group = False
    for field, value in _lines(content):
        if field == "user-agent":
            is_in_group = True
            current, has_rules = (set() if has_rules else current), False
            current |= {_agent_of(value)} & {_ALL, *names}
            groups |= {name: [] for name in current if name not in groups}
        elif field == "license":
            licenses += [value] if len(licenses) < MAX_LICENSES else []
        elif is_in_group:
            has_rules = has_rules or field in ("allow", "disallow")
            for name in current:
                groups[name].append((field, value))
        elif field in FIELDS:
            before.append((field, value))
    if before:
        groups |= {name: [*before, *groups.get(name, [])] for name in {_ALL, *groups}}
    return groups, tuple(licenses)


def _lines(content: bytes) -> Iterator[Line]:
    """Yield the fields that are known, and their values."""
    text = _decoded(content)
    for line in _BREAKS.split(text):
        name, value = _split(line[:_MAX_LINE].partition("#")[0].partition("\0")[0].strip(_SPACE))
        field = _field(name.lower())
        # An empty rule forbids nothing, but it ends the names of a group.
        if field and (value or field in _STARTS.values()):
            yield field, value


def _decoded(content: bytes) -> str:
    """Return a text without its byte order mark, or the beginning of one.

    Google's matcher reads nothing of a file in UTF-16, which some editors write: then it forbids what
    its owner meant to forbid.
    """
    if content.startswith(_WIDE_MARKS):
        return content.decode("utf-16", "replace")
    size = next(n for n in (3, 2, 1, 0) if content.startswith(_MARK[:n]))
    return content[size:].decode("utf-8", "surrogateescape")


def _split(line: str) -> Line:
    name, colon, value = line.partition(":")
    if colon:
        return name.strip(_SPACE), value.strip(_SPACE)
    # Without a colon, a line is a field and one word.
    words = re.split(r"[ \t]+", line)
    return (words[0], words[1]) if len(words) == 2 else ("", "")


def _field(name: str) -> str:
    if name in _OTHERS:
        return _OTHERS[name]
    return next((field for start, field in _STARTS.items() if name.startswith(start)), "")


def _agent_of(value: str) -> str:
    """Return the name of a crawler in the value of `User-agent`, without its version."""
    if value.startswith(_ALL) and value[1:2].strip(_SPACE) == "":
        return _ALL
    match = _AGENT.match(value)
    return match[0].lower() if match else ""


def _rule_sets(name: str, lines: Iterable[Line], place: str) -> Iterator[RuleSet]:
    rules: dict[str, list[PathRule]] = {}
    for field, value in lines:
        if field in ("allow", "disallow"):
            rules.setdefault(ROBOTS, []).extend(_access_rules(field, value))
        elif field in FIELDS:
            path, preference = split_path(value)
            forbids = forbids_training(field, preference)
            if forbids is not None:
                text = f"{field.title()}: {value}"
                rule = PathRule(pattern_of(path), forbids, text)
                rules.setdefault(FIELDS[field][0], []).append(rule)
    for signal, of_signal in rules.items():
        yield RuleSet(signal, place, f"User-agent: {name}; ", tuple(of_signal))


def _access_rules(field: str, value: str) -> Iterator[PathRule]:
    """Yield the rules of a line; an index page that is allowed allows its folder, too."""
    pattern, text = pattern_of(value), f"{field.title()}: {value}"
    if pattern:
        yield PathRule(pattern, field == "disallow", text)
    folder, slash, page = pattern.rpartition("/")
    if field == "allow" and f"{slash}{page}".startswith(_INDEX):
        yield PathRule(f"{folder}/$", False, text)


def _delay(lines: Iterable[Line]) -> float:
    """Return the longest delay that the lines of a group ask for, in seconds."""
    delays = [0.0]
    for field, value in lines:
        if field == "crawl-delay":
            delays.append(_number(value))
        elif field == "request-rate" and (rate := _RATE.match(value)) and int(rate[1]):
            # Their quotient may be too large for a float.
            seconds = min(int(rate[2]) * _SECONDS[rate[3]], math.ceil(MAX_DELAY_S))
            delays.append(seconds / int(rate[1]))
    return min(max(delays), MAX_DELAY_S)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
