"""Whatever a stranger writes becomes a reason: fuzz of URLs, headers, robots.txt and redirects."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.http_exceptions import BadHttpMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from curation.media.web.content_coding import decode_body
from curation.media.web.fetch_error import FetchError
from curation.media.web.opt_outs.headers import header_opt_out, linked_license
from curation.media.web.opt_outs.policy import opt_out_policy
from curation.media.web.opt_outs.robots_txt import MAX_DELAY_S
from curation.media.web.opt_outs.site import SiteRules, read_rules
from curation.media.web.urls import UrlRules, host_in, host_of, normalize
from curation.stages.fetch.client import _parse_retry_after, _redirect_target
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.response_repair import ResponseRepair
from tests.fetch.helpers import rules_of

POLICY = opt_out_policy(FetchParams())
SOON, LONG = 120, 20_000
"""Examples of each property in the normal suite, and at night."""

ODD = [
    *"/:@[]%?#.\\ \t\x00\x85ax0-9",
    "xn--",
    "::1",
    "//",
    "http:",
    "https://",
    "127.1",
    "%00",
    "%e9",
]
ODD += ["。", "é", "\ud800", "\udce9", "‍", "ẞ", "İ", "⒈", "①", "ͅ", "­", "😀", "\u202e"]
odd_text = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3)), max_size=14).map("".join)
urls = st.builds(str.__add__, st.sampled_from(["", "http://", "https://", "//", "http:"]), odd_text)
long_urls = st.builds(lambda a, n: f"http://{a * n}", odd_text, st.integers(0, 2_000))
numbers = st.one_of(
    st.integers().map(str),
    st.integers(1, 5_000).map("9".__mul__),
    st.floats().map(str),
    st.sampled_from(["nan", "inf", "-inf", "1e999", "٣", "²", "0x10", "1_0", "-1", ""]),
)
dates = st.lists(
    st.sampled_from(["Mon,", "Friday,", "01", "Jan", "2024", "00:00:00", "GMT", "+", "-", ":", " "])
    | numbers,
    max_size=9,
).map(" ".join)
words = st.sampled_from(
    [
        "noai",
        "none",
        "noindex",
        "otherbot",
        "curation",
        "unavailable_after",
        "25-Jun-10",
        "15:00:00",
    ]
)
tags = st.lists(st.one_of(words, st.sampled_from([":", ",", ";", " ", '"', "*"]), odd_text)).map(
    "".join
)
link_parts = [*"<>;,='\"", " rel=", "license", " type=", "application/rsl+xml", "/l.xml"]
links = st.lists(st.sampled_from(link_parts) | odd_text, max_size=16).map("".join)
FIELDS = ["User-agent", "user agent", "useragent", "Disallow", "Allow", "disalow", "Crawl-delay"]
FIELDS += [
    "Content-Usage",
    "Content-Signal",
    "License",
    "Request-rate",
    "Visit-time",
    "Sitemap",
    "Host",
    "Noindex",
    "",
    "\ufeffUser-agent",
]
AGENTS = ["*", "curation", "CURATION", "cur", "curation*", "otherbot", "a*b", "c", ""]
PATHS = [
    "train-ai=n",
    "/a ai-train=no",
    "/",
    "/a",
    "/*",
    "/*a*a*a$",
    "/$",
    "/a/index.html",
    "%",
    "/%zz",
    "http://x/",
    "*" * 50,
]
robots_values = st.one_of(st.sampled_from(AGENTS + PATHS), numbers, odd_text)
robots_rates = st.builds(
    "{}/{}{}".format, numbers, numbers, st.sampled_from([*"smhd", "", " 0600"])
)
robots_lines = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(FIELDS),
    st.sampled_from([":", ": ", " ", "\t", " : ", ""]),
    st.one_of(robots_values, robots_rates),
    st.sampled_from(["", " # a", "  "]),
)
robots_texts = st.lists(robots_lines | odd_text, max_size=24).map("\n".join)
STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 302",
    b"ICY 200",
    b"HTTP/9.9 999 \xff",
    b"HTTP/1.1 1",
]
FIELD_LINES = [b"Content-Length: 5", b"Content-Length: -9", b"Content-Length: " + b"9" * 40]
FIELD_LINES += [
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip, br",
    b" folded",
    b"no colon",
]
FIELD_LINES += [b"Location: \xff\x00", b"X: " + b"y" * 70_000, b"Set-Cookie: a=b", b"", b"\r", b"5"]
head_lines = st.one_of(st.sampled_from(FIELD_LINES), st.binary(max_size=20))
responses = st.builds(
    lambda first, lines, end: end.join([first, *lines, b"", b""]),
    st.sampled_from(STATUS_LINES) | st.binary(max_size=12),
    st.lists(head_lines, max_size=12),
    st.sampled_from([b"\r\n", b"\n"]),
)


def a_url_has_a_normal_form_or_a_reason(url: str) -> None:
    normalized, reason = UrlRules().check(url)
    assert reason in (None, "bad_url", "bad_scheme")
    assert (normalized is None) == (reason is not None)
    if normalized is not None:
        assert normalize(normalized) == normalized
        assert host_of(normalized) == host_in(url)
        assert normalized.isascii()


def a_redirect_leads_to_a_url_or_has_a_reason(location: str) -> None:
    try:
        target = _redirect_target("http://h.example/a/b?c", location)
    except FetchError as error:
        assert error.reason == "bad_redirect"
    else:
        assert normalize(target) == target


def a_pause_is_finite(text: str) -> None:
    assert 0 <= _parse_retry_after(text) <= MAX_DELAY_S


def opt_outs_are_read(tag: str) -> None:
    headers = CIMultiDict([("X-Robots-Tag", tag), ("TDM-Reservation", tag)])
    headers.extend([("Content-Usage", tag), ("Content-Signal", tag)])
    opt_out = header_opt_out(CIMultiDictProxy(headers), "http://h.example/", POLICY)
    assert opt_out is None or json.loads(opt_out.as_json())["text"] is not None
    # Whatever else a response says, a plain header of its own forbids.
    headers.add("x-robots-tag", " NoAI ")
    assert header_opt_out(CIMultiDictProxy(headers), "http://h.example/", POLICY)


def a_link_is_a_licence_or_none(value: str) -> None:
    license = linked_license([value, ""], "http://h.example/a/b?c")
    assert license is None or normalize(license) == license
    # Whatever other links a response has, one of its own is read.
    own = [value, '</l.xml>; rel="license"; type="application/rsl+xml"']
    assert linked_license(own, "http://h.example/a") is not None


def rules_survive_the_cache(text: str) -> None:
    rules = rules_of(text.encode("utf-8", "surrogatepass"))
    assert 0 <= rules.delay_s <= MAX_DELAY_S
    assert math.isfinite(rules.delay_s)
    kept = read_rules(rules.text)
    assert kept == rules
    for path in ("", "a", "aaa", "a/index.html", "x?y=%zz", "$", "http://x/"):
        url = f"http://h.example/{path}"
        assert kept.opt_out(url) == rules.opt_out(url)
    assert read_rules(SiteRules().text) == SiteRules()


def a_response_is_repaired_or_refused(response: bytes) -> None:
    repair = ResponseRepair()
    try:
        for start in range(0, len(response), 7_000):
            repair.feed(response[start : start + 7_000])
    except BadHttpMessage:
        pass


def a_body_is_decoded_within_its_limit(body: bytes) -> None:
    for coding in ("gzip", "deflate", "br", "br, gzip, deflate, br", "x-gzip,,\xff", ","):
        try:
            assert len(decode_body(body, coding, 100)) <= 100
        except FetchError as error:
            assert error.reason == "bad_response"


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "urls": (urls, a_url_has_a_normal_form_or_a_reason),
    "long urls": (long_urls, a_url_has_a_normal_form_or_a_reason),
    "redirects": (urls, a_redirect_leads_to_a_url_or_has_a_reason),
    "pauses": (numbers | dates | odd_text, a_pause_is_finite),
    "opt-outs": (tags, opt_outs_are_read),
    "links": (links, a_link_is_a_licence_or_none),
    "robots.txt": (robots_texts, rules_survive_the_cache),
    "responses": (responses, a_response_is_repaired_or_refused),
    "codings": (st.binary(max_size=300), a_body_is_decoded_within_its_limit),
}


@pytest.mark.parametrize("examples", [SOON, pytest.param(LONG, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", PROPERTIES)
def test_nothing_that_strangers_write_raises(name: str, examples: int) -> None:
    values, check = PROPERTIES[name]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values)
    def holds(value: Any) -> None:
        check(value)

    holds()


TIMES = [
    "Mon, 01 Jan 2024 00:00:00 +99999999999999999",
    "01 Jan 2024 00:00:00 +" + "9" * 30,
    "Mon, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "1 Jan " + "9" * 4500 + " 0:0:0 GMT",
    "9" * 5000,
    "x" * 60_000,
]


@pytest.mark.parametrize("text", TIMES, ids=range(len(TIMES)))
def test_times_that_overflow_are_pauses(text: str) -> None:
    a_pause_is_finite(text)


@pytest.mark.parametrize("amount", ["1/" + "9" * 400, "1/" + "9" * 4000 + "d", "9" * 400 + "/1"])
def test_rates_that_overflow_are_delays(amount: str) -> None:
    rules = rules_of(f"User-agent: *\nRequest-rate: {amount}\n".encode())
    assert rules.delay_s == (MAX_DELAY_S if amount.startswith("1/") else 0.0)
