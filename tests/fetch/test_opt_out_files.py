"""What sites write into robots.txt, tdmrep.json and licences is read as their specifications say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.media.web.opt_outs.data_mining import data_mining_opt_out
from curation.media.web.opt_outs.headers import linked_license
from curation.media.web.opt_outs.path_rules import PathRule, RuleSet
from curation.media.web.opt_outs.rsl import read_rsl
from curation.media.web.opt_outs.signals import ROBOTS
from curation.media.web.opt_outs.tdmrep import read_tdmrep
from curation.media.web.opt_outs.usage import FIELDS, forbids_training
from curation.media.web.opt_outs.x_robots_tag import forbids_use
from curation.media.web.params import OPT_OUT_SIGNALS
from tests.fetch.helpers import rules_of

PATHS = ["", "a", "images/a.jpg", "images/open/a.jpg", "x?y=1", "a" * 300]
PLACE = "http://h.example/.well-known/tdmrep.json"


def robots(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def signals(content: bytes, **options: Any) -> dict[str, str | None]:
    """The signal that withholds each of PATHS, by path."""
    rules = rules_of(content, **options)
    opt_outs = {path: rules.opt_out(f"http://h.example/{path}") for path in PATHS}
    return {path: o.signal if o else None for path, o in opt_outs.items()}


USAGES = [
    ("content-usage", "train-ai=n", True),
    ("content-usage", "search=y, train-ai=n", True),
    ("content-usage", "train-ai = N ; x=1", True),
    ("content-usage", "train-ai=n;exceptions=(a), search=n", True),
    ("content-usage", 'train-ai="n"', True),
    ("content-usage", "train-ai=y, train-ai=n", True),
    ("content-usage", "train-ai=y", False),
    ("content-usage", "search=n", None),
    ("content-usage", "train-ai", None),
    ("content-usage", "xtrain-ai=n", None),
    ("content-usage", "train-ai=no", None),
    ("content-signal", "ai-train=no", True),
    ("content-signal", "search=yes,ai-train=no,ai-input=yes", True),
    ("content-signal", "search=yes, ai-train=yes", False),
    ("content-signal", "ai-input=no", None),
    ("content-signal", "", None),
]


@pytest.mark.parametrize(("field", "value", "expected"), USAGES)
def test_usage_preferences(field: str, value: str, expected: bool | None) -> None:
    assert forbids_training(field, value) is expected
    content = robots("User-agent: *", f"{field}: {value}", "Allow: /")
    signal = FIELDS[field][0] if expected else None
    assert set(signals(content).values()) == {signal}
    assert set(signals(content, opt_out_signals=["rsl"]).values()) == {None}


def test_the_longest_path_of_a_usage_preference_decides_and_of_equal_ones_the_strictest() -> None:
    lines = ["User-agent: *", "Content-Usage: train-ai=n", "Content-Usage: /images/ train-ai=y"]
    by_path = signals(robots(*lines))
    assert by_path["a"] == "content_usage"
    assert by_path["images/a.jpg"] is None
    lines += ["Content-Usage: /*/open/ train-ai=y", "Content-Usage: /*/open/ train-ai=n"]
    assert signals(robots(*lines))["images/open/a.jpg"] == "content_usage"
    # A preference that says nothing of training changes nothing.
    lines += ["Content-Usage: /a search=y"]
    assert signals(robots(*lines))["a"] == "content_usage"


@pytest.mark.parametrize("field", FIELDS)
def test_usage_preferences_hold_for_their_group(field: str) -> None:
    forbid = "train-ai=n" if field == "content-usage" else "ai-train=no"
    rule, signal = f"{field}: {forbid}", FIELDS[field][0]
    of_others = robots("User-agent: other", rule, "Disallow: /b", "User-agent: *", "Allow: /")
    assert set(signals(of_others).values()) == {None}
    for name in ("*", "curation", "CCBot", "img2dataset"):
        content = robots(f"User-agent: {name}", rule, "", "User-agent: other", "Disallow: /")
        assert set(signals(content).values()) == {signal}, name
    assert set(signals(robots(rule, "User-agent: x", "Allow: /")).values()) == {signal}
    with_group = robots("User-agent: *", rule, "Disallow: /x", "User-agent: curation", "Allow: /")
    assert set(signals(with_group).values()) == {None}


def test_rules_for_other_crawlers_count_if_they_are_named_and_the_strictest_wins() -> None:
    content = robots("User-agent: CCBot", "Disallow: /images/", "User-agent: *", "Allow: /")
    assert signals(content)["images/a.jpg"] == "robots"
    assert signals(content)["a"] is None
    assert signals(content, robots_agents=[])["images/a.jpg"] is None
    # The group for all crawlers is for those that have none: it does not count for others.
    both = robots("User-agent: *", "Disallow: /", "User-agent: curation", "Disallow: /a")
    assert signals(both)["images/a.jpg"] is None
    assert signals(both)["a"] == "robots"
    # A delay is for the crawler that it names.
    slow = robots("User-agent: CCBot", "Crawl-delay: 60", "User-agent: *", "Crawl-delay: 2")
    assert rules_of(slow).delay_s == 2


def test_what_withholds_a_picture_names_place_crawler_and_line() -> None:
    content = robots("User-agent: img2dataset", "Disallow: /images/ # no", "Allow: /images/open")
    opt_out = rules_of(content).opt_out("http://h.example/images/a.jpg")
    assert opt_out is not None
    assert json.loads(opt_out.as_json()) == {
        "signal": "robots",
        "place": "http://h.example/robots.txt",
        "text": "User-agent: img2dataset; Disallow: /images/",
    }
    assert rules_of(content).opt_out("http://h.example/images/open/a.jpg") is None


def test_spaces_in_headers_and_lines_take_no_time() -> None:
    started, spaces = time.process_time(), " " * 60_000
    for value in (f"a{spaces}b", f"a{spaces}= n", f"train-ai{spaces}={spaces}n", f"noai{spaces}:"):
        forbids_training("content-usage", value)
        forbids_use(value, ["curation"], ["noai"])
    assert forbids_training("content-usage", f"train-ai{spaces}={spaces}n")
    assert forbids_use(f"curation{spaces}:{spaces}noai", ["curation"], ["noai"])
    robots_of_spaces = b"User-agent: *\n" + (b"Content-Usage: a" + b" " * 16_000 + b"b\n") * 30
    assert rules_of(robots_of_spaces).sets == ()
    assert time.process_time() - started < 3


LINKS = {
    "many": "<a>," * 16_000,
    "open": "<" * 60_000,
    "with types": "<a>; type=application/rsl+xml," * 1_900,
    "with parameters": "<a>; type=application/rsl+xml" + ";a=b" * 15_000,
    "with spaces": f"<a>application/rsl+xml;{' ' * 60_000}rel=license",
    "with quotes": "<a>application/rsl+xml" + ';a="' * 15_000,
}


@pytest.mark.parametrize("name", LINKS)
def test_thousands_of_links_take_no_time(name: str) -> None:
    """All hosts share the time in which the headers of a response are read."""
    started = time.process_time()
    linked_license([LINKS[name]] * 4, "http://h.example/a.jpg")
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(("others", "found"), [(99, "http://h.example/l"), (100, None)])
def test_a_licence_is_looked_for_in_the_first_links(others: int, found: str | None) -> None:
    kind = 'type="application/rsl+xml"'
    links = f"</a>; {kind}, " * others + f"</l>; rel=license; {kind}"
    assert linked_license([links], "http://h.example/a.jpg") == found


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rules_are_read_in_every_encoding_of_an_editor(codec: str, end: str) -> None:
    text = end.join(["User-agent: *", "Disallow: /images/é", "Content-Usage: train-ai=n", ""])
    mark = "\ufeff" if codec.startswith("utf-16") else ""
    rules = rules_of(f"{mark}{text}".encode(codec))
    assert rules.opt_out("http://h.example/images/%C3%A9a") is not None
    assert rules == rules_of(text.encode())
    # A file may end within a character.
    assert rules_of(f"{mark}{text}".encode(codec)[:-1]).sets


def tdm(*entries: Any) -> RuleSet | None:
    return read_tdmrep(json.dumps(entries).encode(), PLACE)


def entry(location: Any, value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"location": location, "tdm-reservation": value, **more}


@pytest.mark.parametrize(
    ("entries", "path", "expected"),
    [
        ([entry("/")], "/a", True),
        ([entry("/*")], "/a/b.jpg", True),
        ([entry("*")], "/a", True),
        ([entry("/a/", "1")], "/a/b", True),
        ([entry("/a/")], "/b", False),
        ([entry("/", 0), entry("/images/*.jpg$")], "/images/x.jpg", True),
        ([entry("/"), entry("/open/", 0)], "/open/x.jpg", False),
        ([entry("/open/", 0), entry("/")], "/open/x.jpg", False),
        ([entry("/a", 0), entry("/a", 1)], "/a", True),
        ([entry("https://h.example/a")], "/a", True),
        ([entry("a/")], "/a/b", True),
        ([entry("/\ud800"), entry("/")], "/a", True),
        ([entry("/b", json.loads("[" * 900 + "]" * 900)), entry("/")], "/a", True),
        ([entry("/", 0)], "/a", False),
        ([entry("/", 1.0)], "/a", True),
        ([entry("/", 1.5)], "/a", False),
        ([entry("/\ud800", 0), entry("/a")], "/a/b", True),
        ([entry("/", None), "text", 3, None, {"location": "/"}, entry(3)], "/a", False),
    ],
)
def test_rules_of_tdmrep_reserve_paths(entries: list[Any], path: str, expected: bool) -> None:
    rules = tdm(*entries)
    assert (rules is not None and rules.opt_out(path) is not None) == expected


def test_a_reservation_shows_its_policy() -> None:
    rules = tdm(entry("/a", **{"tdm-policy": "https://h.example/policy.json", "x": "y"}))
    assert rules is not None
    opt_out = rules.opt_out("/a")
    assert opt_out is not None and "policy.json" in opt_out.text and '"x"' not in opt_out.text
    assert opt_out.place == PLACE


def licence(*contents: str) -> RuleSet | None:
    text = f'<rsl xmlns="https://rslstandard.org/rsl">{"".join(contents)}</rsl>'
    return read_rsl(text.encode(), "http://l.example/rsl.xml", "h.example")


def part(url: str, uses: str = "ai-train", kind: str = "usage") -> str:
    terms = f'<license><prohibits type="{kind}">{uses}</prohibits></license>'
    return f'<content url="{url}">{terms}</content>'


@pytest.mark.parametrize(
    ("contents", "path", "expected"),
    [
        ([part("/")], "/a", True),
        ([part("/", "search ai-train")], "/a", True),
        ([part("/", "ai-input,ai-all")], "/a", True),
        ([part("/", "all")], "/a", True),
        ([part("/", "train-ai")], "/a", True),
        ([part("/", "ai-input search")], "/a", False),
        ([part("/", "ai-train", "geo")], "/a", False),
        ([part("/images/*.png$")], "/images/a.png", True),
        ([part("/images/*.png$")], "/images/a.jpg", False),
        ([part("/"), part("/open/", "search")], "/open/a", False),
        ([part("https://h.example/a")], "/a", True),
        ([part("https://*.h.example/a")], "/a", True),
        ([part("https://other.example/a")], "/a", False),
        ([part("https://other.example/"), part("/b")], "/b", True),
        (["<content><license><prohibits>ai-train</prohibits></license></content>"], "/a", True),
        (
            ['<content url="/"><license><permits type="usage">search</permits></license>'],
            "/",
            False,
        ),
        (['<content url="/"><license><prohibits type="usage">ai-train</prohibits>'], "/", True),
    ],
)
def test_licences_prohibit_training_on_paths(
    contents: list[str], path: str, expected: bool
) -> None:
    rules = licence(*contents)
    assert (rules is not None and rules.opt_out(path) is not None) == expected


def test_a_licence_declares_no_entities() -> None:
    bomb = '<!DOCTYPE r [<!ENTITY a "ai-train">]><rsl>' + part("/", "&a;") + "</rsl>"
    assert read_rsl(bomb.encode(), "p", "h.example") is None


@pytest.mark.parametrize(
    "kind", ["", "-AIMLTRAINING", "-EXCEPTSEARCHENGINEINDEXING", "-SEECONSTRAINT"]
)
def test_data_mining_that_is_prohibited(kind: str) -> None:
    value = f"DMI-PROHIBITED{kind}"
    opt_out = data_mining_opt_out(value, OPT_OUT_SIGNALS)
    assert opt_out is not None and (opt_out.signal, opt_out.text) == ("data_mining", value)
    assert data_mining_opt_out(value, ["data_mining_genai"]) is None


def test_data_mining_that_is_not_or_only_for_generative_models() -> None:
    for value in (None, "DMI-ALLOWED", "DMI-UNSPECIFIED", "other"):
        assert data_mining_opt_out(value, OPT_OUT_SIGNALS) is None
    opt_out = data_mining_opt_out("DMI-PROHIBITED-GENAIMLTRAINING", OPT_OUT_SIGNALS)
    assert opt_out is not None and opt_out.signal == "data_mining_genai"
    assert data_mining_opt_out("DMI-PROHIBITED-GENAIMLTRAINING", ["data_mining"]) is None


ODD = ["/", "*", "$", "a", "é", "%", "\ud800", "\0", "{", "}", '"', "<", ">", "&", "location", "="]
ODD += ["<content url='/'>", "<prohibits>", "ai-train", "</prohibits>", "<!DOCTYPE", "[[[", "1e999"]
odd = st.lists(st.sampled_from(ODD) | st.text(max_size=4), max_size=16).map("".join)
contents = odd.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | odd,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd, inner, max_size=3),
    max_leaves=6,
)
entries = st.dictionaries(
    st.sampled_from(["location", "tdm-reservation", "tdm-policy", "x"]), values, max_size=4
)


def usage_is_read(text: str) -> None:
    for field in FIELDS:
        assert forbids_training(field, text) in (None, True, False)
        assert set(signals(f"User-agent: *\n{field}: {text}".encode("utf-8", "surrogatepass")))


def tdmrep_is_read(content: bytes) -> None:
    _is_bounded(read_tdmrep(content, PLACE), content)


def entries_are_read(values: list[Any]) -> None:
    content = json.dumps(values).encode()
    _is_bounded(read_tdmrep(content, PLACE), content)


def licences_are_read(content: bytes) -> None:
    _is_bounded(read_rsl(b"<rsl>" + content, "p", "h.example"), content)
    _is_bounded(read_rsl(content, "p", "h.example"), content)


def _is_bounded(rules: RuleSet | None, content: bytes) -> None:
    if rules is not None:
        assert len(rules.rules) <= len(content)
        for path in ("/", "/a", "/" + "a" * 3_000):
            opt_out = rules.opt_out(path)
            assert opt_out is None or len(opt_out.as_json()) < 3_000


PROPERTIES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "usage": (odd, usage_is_read),
    "tdmrep.json": (contents, tdmrep_is_read),
    "entries": (st.lists(entries, max_size=4), entries_are_read),
    "licences": (contents, licences_are_read),
}


@pytest.mark.parametrize("examples", [60, pytest.param(10_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", PROPERTIES)
def test_nothing_that_sites_write_raises(name: str, examples: int) -> None:
    values, check = PROPERTIES[name]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values)
    def holds(value: Any) -> None:
        check(value)

    holds()


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 100_000, b"<a>" * 100_000])
def test_files_that_are_nested_deeply_say_nothing(content: bytes) -> None:
    assert read_tdmrep(content, PLACE) is None
    assert read_rsl(content, "p", "h.example") is None


patterns = st.lists(st.sampled_from(["a", "b", "*", "/"]), max_size=6).map("".join)


@settings(max_examples=300, deadline=None)
@given(patterns, st.booleans(), st.text("ab/", max_size=8))
def test_patterns_match_as_regular_expressions_do(text: str, to_end: bool, rest: str) -> None:
    import re

    pattern, path = f"/{text}{'$' * to_end}", f"/{rest}"
    expected = re.match(re.escape(f"/{text}").replace(r"\*", ".*") + "$" * to_end, path)
    rules = RuleSet(ROBOTS, "p", "", (PathRule(pattern, True, pattern),))
    assert (rules.opt_out(path) is not None) == (expected is not None)
