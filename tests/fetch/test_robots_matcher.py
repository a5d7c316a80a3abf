"""robots.txt is matched as Google's matcher does, besides differences that are named here."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.media.web.urls import normalize
from tests.fetch.helpers import rules_of

# Its wheels stop at Python 3.13.
RobotsMatcher = pytest.importorskip("robotstxt").RobotsMatcher

SOON, LONG = 400, 4_000
FIELDS = ["User-agent", "user-agent", "USERAGENT", "user agent", "Disallow", "Allow", "dissallow"]
FIELDS += ["disalow", "diasllow", "Sitemap", "Crawl-delay", "Content-Signal", "Noindex", "allowed"]
FIELDS += ["Disallowed", "Host", "", "license"]
AGENTS = ["*", "* x", "*x", "curation", "CURATION", "curation/2.0", "cur", "curation-x", "other"]
PARTS = [
    "/",
    "a",
    "b",
    "*",
    "$",
    "index.html",
    "index.htm",
    ".",
    "?",
    "=",
    "%e9",
    "é",
    "%C3%A9",
    ",",
]
paths = st.lists(st.sampled_from(PARTS), max_size=7).map("".join)
values = st.one_of(st.sampled_from(AGENTS), paths, paths.map("/{}".format))
lines = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", " ", "\t", "# "]),
    st.sampled_from(FIELDS),
    st.sampled_from([":", ": ", ":", " : ", " ", "\t", ""]),
    values,
    st.sampled_from(["", " # a", "  ", "#"]),
)
groups = st.builds(
    lambda names, rules: [*(f"User-agent: {name}" for name in names), *rules],
    st.lists(st.sampled_from(AGENTS), max_size=3),
    st.lists(st.builds("{}: {}".format, st.sampled_from(["Allow", "Disallow"]), values)),
)
texts = st.builds(
    lambda parts, end, mark: mark + end.join(line for part in parts for line in part),
    st.lists(groups | lines.map(lambda line: [line]), max_size=9),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
)
URL_PARTS = [
    "/",
    "a",
    "b",
    "index.html",
    "index.htm",
    ".",
    "$",
    "*",
    "?",
    "=",
    "%C3%A9",
    "%E9",
    ",",
]
url_paths = (
    st.lists(st.sampled_from(URL_PARTS), max_size=7)
    .map("".join)
    # The bindings drop the mark of an empty query.
    .filter(lambda path: not path.endswith("?"))
)


def allowed_by_google(text: str, path: str, agent: str = "curation") -> bool:
    return bool(RobotsMatcher().is_allowed(text, agent, f"http://h.example/{path}"))


@pytest.mark.parametrize("examples", [SOON, pytest.param(LONG, marks=pytest.mark.nightly)])
def test_generated_files_are_matched_as_google_does(examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(texts, st.lists(url_paths, min_size=1, max_size=6))
    def holds(text: str, paths: list[str]) -> None:
        rules = rules_of(text.encode(), robots_agents=[], opt_out_signals=[])
        for path in paths:
            expected = allowed_by_google(text, path)
            opt_out = rules.opt_out(normalize(f"http://h.example/{path}"))
            assert (opt_out is None) == expected, (text, path)

    holds()


def allows(text: str, path: str, agent: str = "curation") -> bool:
    rules = rules_of(text.encode(), agent, robots_agents=[])
    return rules.opt_out(f"http://h.example/{path}") is None


def test_names_of_crawlers_may_have_digits_unlike_in_googles_matcher() -> None:
    text = "User-agent: img2dataset\nDisallow: /\n"
    assert allowed_by_google(text, "a", "img2dataset")
    assert not allows(text, "a", "img2dataset")
    assert not allows("User-agent: bot_1.x/3.0\nDisallow: /\n", "a", "bot_1.x")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("/%61b", "ab"), ("/~a", "~a"), ("/%7Ea", "~a"), ("/a b", "a%20b"), ('/"', "%22")],
)
def test_patterns_are_normalised_as_urls_are_unlike_in_googles_matcher(
    pattern: str, path: str
) -> None:
    assert not allows(f"User-agent: *\nDisallow: {pattern}\n", path)


def test_long_lines_are_cut_as_google_does() -> None:
    for size in (16_640, 16_662, 16_663, 16_664, 16_700):
        text = f"User-agent: *\nDisallow: /{'a' * size}b"
        for path in ("a" * size, "a" * size + "b", "a" * (size - 60)):
            assert allows(text, path) == allowed_by_google(text, path), (size, len(path))
