"""Opt-out headers are read in every form in which servers write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from curation.media.web.opt_outs.headers import header_opt_out
from curation.media.web.opt_outs.policy import opt_out_policy
from curation.stages.fetch.params import FetchParams
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import encoded, fetched, picture, reason

JPEG = encoded(picture())
DEFAULT = FetchParams().opt_out


def forbids(*tags: str, directives: list[str] = DEFAULT, **more: str) -> bool:
    headers = CIMultiDict([("X-Robots-Tag", tag) for tag in tags])
    headers.extend({name.replace("_", "-"): value for name, value in more.items()})
    return is_forbidden(headers, directives)


def is_forbidden(headers: CIMultiDict[str], directives: list[str] = DEFAULT) -> bool:
    policy = opt_out_policy(FetchParams(opt_out=directives))
    return header_opt_out(CIMultiDictProxy(headers), "http://h.example/", policy) is not None


DATES = [
    "25 Jun 2010 15:00:00 PST",
    "Friday, 25-Jun-10 15:00:00 PST",
    "Friday, 25 Jun 2010 15:00:00 GMT",
    "Fri, 25 Jun 2010 15:00:00 GMT",
    "2010-06-25T15:00:00+00:00",
    "Fri Jun 25 15:00:00 2010",
]
VALUES = [f"unavailable_after: {date}" for date in DATES]
VALUES += ["max-snippet:-1", "max-image-preview: large", "max-age: 3", "ai-train: no", "noarchive"]
SPELLINGS = [
    "{}, noai",
    "{},noai",
    "{} ; NoAI",
    " {}\t,\tNOAI ",
    '{}, "noai"',
    "{} noai",
    "{},, noai,",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("value", VALUES)
def test_a_directive_counts_after_every_other_one(value: str, spelling: str) -> None:
    assert forbids(spelling.format(value))
    assert not forbids(spelling.format(value).lower().replace("noai", "nosnippet"))


@pytest.mark.parametrize(
    "tag",
    [
        "none",
        "NONE, noarchive",
        "*: none",
        "curation: none",
        "CURATION: noai",
        "curation/0.1: noai",
        "otherbot: nofollow, curation: noai",
        "otherbot, curation: noindex",
        '"noindex, noai"',
        "'noai'",
        ": noai",
        "noai:",
        "noai: 1",
        "unavailable_after:, noai",
        "\N{NO-BREAK SPACE}noai\N{NO-BREAK SPACE}",
        "noai\udca0",
        "googlebot: unavailable_after: Friday, 25 Jun 2010 15:00:00 GMT, curation: noai",
    ],
)
def test_odd_forms_forbid(tag: str) -> None:
    assert forbids(tag)


@pytest.mark.parametrize(
    "tag",
    [
        "otherbot: noindex, noai",
        "otherbot:noai",
        "otherbot : none",
        "otherbot: unavailable_after: Friday, 25 Jun 2010 15:00:00 GMT, noai",
        '"otherbot": noai',
        "all",
        "nofollow",
        "",
        "noaim, xnoai",
    ],
)
def test_what_is_for_others_or_says_something_else_does_not_forbid(tag: str) -> None:
    assert not forbids(tag)
    assert forbids(tag, "noai")
    assert forbids("noai", tag)


def test_none_is_noindex() -> None:
    assert forbids("none", directives=["noindex"])
    assert forbids("none", directives=["nofollow"])
    assert not forbids("none", directives=["noai"])


@pytest.mark.parametrize("value", ["1", " 1 ", '"1"', "1; policy", "0, 1", "True", "1.0"])
def test_a_reservation_forbids(value: str) -> None:
    assert forbids(tdm_reservation=value)


@pytest.mark.parametrize("value", ["0", "", "10", "-1", "yes"])
def test_no_reservation_does_not(value: str) -> None:
    assert not forbids(tdm_reservation=value)


def test_of_several_reservations_one_forbids() -> None:
    headers = CIMultiDict([("TDM-Reservation", "0"), ("tdm-reservation", "1")])
    assert is_forbidden(headers)


def test_headers_of_every_answer_on_the_way_count(web: Web, tmp_path: Path) -> None:
    for status in ("301 Moved", "302 Found", "303 See", "307 Later", "308 Moved"):
        path = f"/{status[:3]}"
        page = answer(status=status, Location="/end", X_Robots_Tag="noai")
        web.pages[path] = page
        web.pages[f"{path}/twice"] = answer(status=status, Location=path)
    web.pages["/reserved"] = answer(status="302 Found", Location="/end", TDM_Reservation="1")
    web.pages["/open"] = answer(status="302 Found", Location="/end", X_Robots_Tag="x: noai")
    web.pages["/end"] = answer(JPEG)
    paths = [path for path in web.pages if path != "/end"]
    rows = fetched(tmp_path, [web.url(path) for path in paths])
    reasons = {row["url"].split("/", 3)[3]: row["reason"] for row in rows}
    assert reasons.pop("open") is None
    assert reasons.pop("reserved") == "opted_out_tdmrep"
    assert set(reasons.values()) == {"opted_out_x_robots_tag"}
    assert web.requests["/end"] == 1


def test_an_error_page_is_an_error_whatever_it_forbids(web: Web, tmp_path: Path) -> None:
    web.pages["/gone"] = answer(status="404 Not Found", X_Robots_Tag="noindex")
    web.pages["/robots.txt"] = answer(status="302 Found", Location="/r", X_Robots_Tag="noindex")
    web.pages["/r"] = answer(b"User-agent: *\nAllow: /\n", X_Robots_Tag="none")
    assert reason(tmp_path, web.url("/gone", HOSTS[1])) == "http_404"
