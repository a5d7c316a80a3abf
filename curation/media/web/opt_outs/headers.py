"""Whether the headers of a response withhold its image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice

from multidict import CIMultiDictProxy

from curation.media.web.opt_outs import tdmrep
from curation.media.web.opt_outs.policy import OptOutPolicy
from curation.media.web.opt_outs.signals import OptOut
from curation.media.web.opt_outs.usage import FIELDS, forbids_training
from curation.media.web.opt_outs.x_robots_tag import forbids_use
from curation.media.web.urls import InvalidURLError, join

HEADERS = ("x-robots-tag", tdmrep.HEADER, *FIELDS, "link")
"""Headers that are read, in lower case."""
MAX_LINKS, MAX_PARAMETERS = 100, 1000
"""Links of one response that are looked at for a licence, and characters of the parameters of each."""
_RSL = "application/rsl+xml"
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_PARAMETER = re.compile(r""";\s*([\w*-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;,"']+))""")
_WORD = re.compile(r"[^\w:*./+-]+")


def header_opt_out(headers: CIMultiDictProxy[str], url: str, policy: OptOutPolicy) -> OptOut | None:
    """Return what in the headers of a response withholds its image, or None if nothing does.

    Args:
        headers: of the response; each may stand there several times.
        url: that it answers.
        policy: which signals count.
    """
    for signal, name, value in _signals(headers, policy):
        if signal in policy.signals:
            return OptOut(signal, f"header {name} of {url}", value)
    return None


def linked_license(values: Iterable[str], url: str) -> str | None:
    """Return the address of the first licence (RSL) of headers `Link`, normalised, or None.

    Args:
        values: of these headers.
        url: that the response answers.
    """
    # Every response may bring thousands of links, and all hosts share the time of the event loop.
    naming = (value for value in values if _RSL in value.lower())
    links = chain.from_iterable(map(_LINK.finditer, naming))
    for target, parameters in (link.groups() for link in islice(links, MAX_LINKS)):
        named = dict(_parameters(parameters[:MAX_PARAMETERS]))
        if "license" in named.get("rel", "").lower().split() and named.get("type") == _RSL:
            with suppress(InvalidURLError):
                return join(url, target)
    return None


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and values of the parameters of a link, last first: the first of a name counts."""
    for name, *forms in reversed(_PARAMETER.findall(text)):
        yield name.lower(), max(forms).strip().lower()


def _signals(
    headers: CIMultiDictProxy[str], policy: OptOutPolicy
) -> Iterator[tuple[str, str, str]]:
    """Yield signal, name and value of each header that withholds the image."""
    for value in headers.getall(HEADERS[0], ()):
        if forbids_use(value, policy.products, policy.directives):
            yield "x_robots_tag", "X-Robots-Tag", value
    for value in headers.getall(tdmrep.HEADER, ()):
        if not tdmrep.RESERVED.isdisjoint(_WORD.split(value.lower())):
            yield "tdmrep", tdmrep.HEADER, value
    for field, (signal, _, _) in FIELDS.items():
        for value in headers.getall(field, ()):
            if forbids_training(field, value):
                yield signal, field.title(), value
