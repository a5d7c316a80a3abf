"""Whether the headers of a response withhold its image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from multidict import CIMultiDictProxy

from curation.media.web.opt_outs import tdmrep
from curation.media.web.opt_outs.policy import OptOutPolicy
from curation.media.web.opt_outs.signals import OptOut
from curation.media.web.opt_outs.usage import FIELDS, forbids_training
from curation.media.web.opt_outs.x_robots_tag import forbids_use
from curation.media.web.urls import InvalidURLError, normalize

HEADERS = ("x-robots-tag", tdmrep.HEADER, *FIELDS, "link")
"""Headers that are read, in lower case."""
_RSL = "application/rsl+xml"
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


def linked_license(links: Iterable[tuple[str, Mapping[str, object]]]) -> str | None:
    """Return the address of the first licence (RSL) of headers `Link`, normalised, or None.

    Args:
        links: relation, and the parameters `type` and `url`, of each link.
    """
    for relation, link in links:
        kind = str(link.get("type", "")).strip().lower()
        if "license" in relation.lower().split() and kind == _RSL:
            with suppress(InvalidURLError):
                return normalize(str(link["url"]))
    return None


def _signals(
    headers: CIMultiDictProxy[str], policy: OptOutPolicy
) -> Iterator[tuple[str, str, str]]:
    """Yield signal, name and value of each header that withholds the image."""
    for value in headers.getall(HEADERS[0], ()):
        if forbids_use(value, policy.products, policy.directives):
            yield "x_robots_tag", "X-Robots-Tag", value
    for value in headers.getall(tdmrep.HEADER, ()):
        if "1" in _WORD.split(value.strip(" \"'`")):
            yield "tdmrep", tdmrep.HEADER, value
    for field, (signal, _, _) in FIELDS.items():
        for value in headers.getall(field, ()):
            if forbids_training(field, value):
                yield signal, field.title(), value
