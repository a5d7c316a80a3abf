"""Regular expressions of a recipe: what they find, and the time that they take on hostile text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.media.web.params import UrlParams
from curation.media.web.patterns import is_found
from curation.media.web.urls import UrlRules

ATOMS = ["a", "b", "/", ".", r"\.", "[ab]", "[^a]", r"\d", "^", "$", "(?:a|b/)", "(ab)"]
REPEATS = ["", "?", "*", "+", "{1,2}", "*?"]
PARTS = st.builds(
    lambda atom, repeat: atom + ("" if atom in "^$" else repeat),
    st.sampled_from(ATOMS),
    st.sampled_from(REPEATS),
)
PATTERNS = st.lists(PARTS, max_size=4).map("".join)
CATASTROPHIC = (
    r"(a+)+$",
    r"(a|a)*$",
    r"(a|aa)+$",
    r"(.*a){20}$",
    r"(a?){30}a{30}$",
    r"^(\w+\.?)+$",
)


@given(
    patterns=st.lists(PATTERNS, min_size=1, max_size=3),
    texts=st.lists(st.text("ab/.1"), max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_what_python_finds_is_found(patterns: list[str], texts: list[str]) -> None:
    expected = any(re.search(pattern, text) for pattern in patterns for text in texts)
    assert is_found(tuple(patterns), *texts) == expected


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_no_url_makes_a_pattern_take_long(pattern: str) -> None:
    """Python's own `re` would take longer than the universe has existed."""
    rules = UrlRules(
        max_url_length=8192, patterns=tuple(UrlParams(blocked_patterns=[pattern]).blocked_patterns)
    )
    url = "http://example.com/" + "a" * 8_000 + "!"
    begun = time.process_time()
    rules.check(url)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "pattern", [r"(?=a)b", r"(?<!a)b", r"(a)\1", r"(?P<n>a)(?P=n)", "(?:a{900}){900}"]
)
def test_patterns_that_need_unbounded_time_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"cannot be matched in bounded time.*syntax of RE2"):
        UrlParams(blocked_patterns=["/ads/", pattern])


def test_flags_hold_for_one_pattern() -> None:
    patterns = ("(?i)/ads/", "tracker")
    assert is_found(patterns, "http://example.com/ADS/a.jpg")
    assert not is_found(patterns, "http://example.com/TRACKER/a.jpg")


def test_text_that_is_no_unicode_is_searched() -> None:
    assert is_found(("/ads/",), "http://example.com/\udc80/ads/")
