"""Opt-outs of sites that this process has read, for rows that are not requested again."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from curation.media.web.opt_outs.policy import opt_out_policy
from curation.media.web.opt_outs.site import SiteRules
from curation.stages.fetch import robots_gate
from curation.stages.fetch.hosts import origin_of
from curation.stages.fetch.params import FetchStep
from curation.stages.fetch.request import FetchRequest, FetchResult


class _UrlOfRow(NamedTuple):
    """A row, and a URL whose rules count for it."""

    row: FetchRequest
    url: str


def seen_opt_outs(
    requests: Iterable[FetchRequest], targets: Mapping[int, str | None], params: FetchStep
) -> Iterator[FetchResult]:
    """Yield the rows that the rules of their sites withhold, as far as these have been read.

    The sites of a row are that of its URL, and the one that gave its picture after redirects.

    An earlier run may have fetched such rows, before the site opted out. No site is asked for this: it
    needs rows that are requested anyway, of this fragment or of another one of the same process.

    Args:
        requests: rows; those of the web count.
        targets: the URLs that gave the pictures of rows, by the number of the row; None for no picture.
        params: which signals count.
    """
    policy = opt_out_policy(params)
    by_origin: dict[str, list[_UrlOfRow]] = defaultdict(list)
    for request in requests:
        if request.url is not None and request.location is None:
            for url in dict.fromkeys((request.url, targets.get(request.row) or request.url)):
                by_origin[origin_of(url)].append(_UrlOfRow(request, url))
    for origin, rows in by_origin.items():
        rules = robots_gate.cached_rules(origin, policy)
        if rules is not None and rules.sets:
            yield from _withheld(rows, rules)


def _withheld(rows: Sequence[_UrlOfRow], rules: SiteRules) -> Iterator[FetchResult]:
    """Yield the rows of a site that its rules withhold; all, if the rules take too long."""
    end = time.thread_time() + robots_gate.MAX_RULES_S
    withheld = []
    for row, url in rows:
        opt_out = rules.opt_out(url)
        if opt_out is not None:
            withheld.append(FetchResult(row, reason=opt_out.reason, opt_out=opt_out.as_json()))
        if time.thread_time() > end:
            # As for rows that are requested: rules that take long cost their host alone.
            withheld = [FetchResult(row, reason="robots_unreadable") for row, _ in rows]
            break
    yield from withheld
