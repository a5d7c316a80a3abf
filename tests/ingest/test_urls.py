from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.web.urls import InvalidURLError, UrlRules, normalize, parse_domains

# Expected by RFC 3986 section 6.2, RFC 5891 for hosts.
SAME = [
    ("HTTP://Example.COM:80/a/./b/../c", "http://example.com/a/c"),
    ("https://example.com:443", "https://example.com/"),
    ("http://example.com:8080/", "http://example.com:8080/"),
    ("http://example.com/%7euser/%2f%c3%a9", "http://example.com/~user/%2F%C3%A9"),
    ("http://example.com/a b", "http://example.com/a%20b"),
    ("http://example.com/é?ü=1#part", "http://example.com/%C3%A9?%C3%BC=1"),
    ("http://example.com./x", "http://example.com/x"),
    ("http://bücher.example/", "http://xn--bcher-kva.example/"),
    ("http://example.com?x=1", "http://example.com/?x=1"),
    ("  http://example.com/x \n", "http://example.com/x"),
    ("http://example.com/?q=a%2Bb+c%20d&e=%26", "http://example.com/?q=a%2Bb+c%20d&e=%26"),
    ("http://[2001:DB8::0:1]:80/x", "http://[2001:db8::1]/x"),
    ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x"),
]


@pytest.mark.parametrize(("url", "expected"), SAME)
def test_equivalent_urls_have_one_normal_form(url: str, expected: str) -> None:
    assert normalize(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/x", "bad_scheme"),
        ("file:///etc/passwd", "bad_scheme"),
        ("data:image/png;base64,AAAA", "bad_scheme"),
        ("javascript:alert(1)", "bad_scheme"),
        ("//example.com/x", "bad_scheme"),
        ("www.example.com/x.jpg", "bad_scheme"),
        ("http://user:word@example.com/", "bad_url"),
        ("http://user@example.com/", "bad_url"),
        ("http://example.com/\x00", "bad_url"),
        ("http://example.com/a\nb", "bad_url"),
        ("http://exa mple.com/", "bad_url"),
        ("http://", "bad_url"),
        ("http:///x", "bad_url"),
        ("http://example.com:99999/", "bad_url"),
        ("http://example.com:x/", "bad_url"),
        ("http://a..b/", "bad_url"),
        (f"http://{'a' * 64}.com/", "bad_url"),
        (f"http://{'.'.join(['abcdefgh'] * 30)}/", "bad_url"),
        ("http://example.com\\@evil.org/", "bad_url"),
        ("http://127.1/", "bad_url"),
        ("http://2130706433/", "bad_url"),
        ("http://0x7f000001/", "bad_url"),
        ("http://0177.0.0.1/", "bad_url"),
        ("http://[fe80::1%25eth0]/", "bad_url"),
        ("http://[::1", "bad_url"),
        ("http://xn--a/", "bad_url"),
    ],
)
def test_invalid_urls_have_reasons(url: str, reason: str) -> None:
    with pytest.raises(InvalidURLError) as error:
        normalize(url)
    assert error.value.reason == reason


@given(
    st.sampled_from(["http://", "HTTPS://"]),
    st.sampled_from(["example.com", "EXAMPLE.com.", "bücher.example", "10.0.0.1", "[::1]"]),
    st.sampled_from(["", ":80", ":443", ":8080", ":"]),
    st.text(max_size=30),
)
def test_normalising_twice_changes_nothing(scheme: str, host: str, port: str, rest: str) -> None:
    try:
        once = normalize(f"{scheme}{host}{port}/{rest}")
    except InvalidURLError:
        return
    assert normalize(once) == once
    assert once.isascii()


@given(st.text(max_size=60))
def test_any_text_is_normalised_or_raises_an_error(text: str) -> None:
    try:
        found = normalize(text)
    except InvalidURLError as error:
        assert error.reason in ("bad_url", "bad_scheme")
    else:
        assert found.startswith(("http://", "https://"))


def test_rules_check_length_and_patterns() -> None:
    rules = UrlRules(max_url_length=30, patterns=(r"/ads?/", r"\.svg$"))
    assert rules.check("http://example.com/a.jpg") == ("http://example.com/a.jpg", None)
    assert rules.check("http://example.com/ad/a.jpg")[1] == "blocked_pattern"
    assert rules.check("http://example.com/%61d/b")[1] == "blocked_pattern"
    assert rules.check("http://example.com/" + "a" * 30) == (None, "bad_url")


def test_block_lists_of_all_forms_are_parsed() -> None:
    text = "\ufeff# comment\nExample.com\n*.ads.example\n.trap.example  # why\n\nbücher.example\n"
    expected = {"example.com", "ads.example", "trap.example", "xn--bcher-kva.example"}
    assert parse_domains(text.encode()) == expected
