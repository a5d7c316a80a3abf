"""URLs in their normal form, and the reasons of those that are not requested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.web.host_names import canonical_host
from curation.media.web.urls import InvalidURLError, UrlRules, join, normalize

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
    # What browsers open (WHATWG URL).
    ("http://my-blog-.example.com/", "http://my-blog-.example.com/"),
    ("http://-a.b_c.example.com/", "http://-a.b_c.example.com/"),
    ("http://i❤.ws/", "http://xn--i-7iq.ws/"),
    ("http://xn--i-7iq.ws/", "http://xn--i-7iq.ws/"),
    ("http://straße.example/", "http://xn--strae-oqa.example/"),
    ("http://faß.XN--BCHER-KVA.example", "http://xn--fa-hia.xn--bcher-kva.example/"),
    ("http://例え.テスト/", "http://xn--r8jz45g.xn--zckzah/"),
    ("http://ma\u00adny.example/", "http://many.example/"),
    ("http://ＷＩＤＥ。example．com/", "http://wide.example.com/"),
    ("http://１２７．0.0.1/", "http://127.0.0.1/"),
    ("http://ex%61mple.com/", "http://example.com/"),
    ("http://b%C3%BCcher.example/", "http://xn--bcher-kva.example/"),
    ("http://EXAMPLE.com:0080/", "http://example.com/"),
    ("http://example.com:/", "http://example.com/"),
    ("http://@example.com/", "http://example.com/"),
    ("http://2001.example.0xyz/", "http://2001.example.0xyz/"),
    ("http:/example.com/a", "http://example.com/a"),
    ("http:example.com/a", "http://example.com/a"),
    ("http:\\\\example.com\\a", "http://example.com/a"),
    ("http://example.com/a\nb\tc", "http://example.com/abc"),
    ("http://example.com/a?b\\c", "http://example.com/a?b\\c"),
    ("http://example.com/a\u00a0", "http://example.com/a%C2%A0"),
    ("http://example.com/x?q=a|b&y=[1]{2}", "http://example.com/x?q=a|b&y=[1]{2}"),
    ("http://example.com/a|b[1]{2}^`", "http://example.com/a|b[1]%7B2%7D%5E%60"),
    ('http://example.com/"a"?"b"<c>', "http://example.com/%22a%22?%22b%22%3Cc%3E"),
    ("http://example.com/caf\udce9", "http://example.com/caf%E9"),
    ("http://example.com/100%.jpg", "http://example.com/100%.jpg"),
    ("http://example.com/%zz%41%c3", "http://example.com/%zz%41%C3"),
    ("http://example.com/%%34%31", "http://example.com/%%34%31"),
    ("http://example.com/a/%2E%2e/b", "http://example.com/b"),
    ("http://example.com//a//b/..//c/.", "http://example.com//a///c/"),
    ("http://example.com/a/..", "http://example.com/"),
    ("http://example.com/../../a", "http://example.com/a"),
    ("http://example.com/a?", "http://example.com/a?"),
    ("http://example.com/a?x=/../y#z", "http://example.com/a?x=/../y"),
]

# Each stays as it is: an escape of a reserved character is not the character (RFC 3986, section 2.2).
KEPT = [
    *(f"/a%{ord(char):02X}b" for char in ":/?#[]@!$&'()*+,;=% \"<>\\^`{|}"),
    *(f"/x?a%{ord(char):02X}b" for char in ":/?#[]@!$&'()*+,;=% \"<>\\^`{|}"),
    *(f"/a{char}b?a{char}b" for char in ":@!$&'()*+,;=|[]"),
    "/caf%E9.jpg",
    "/%A4%A4.jpg",
    "/%FF%00",
    "//a//b.jpg",
    "/a/;x/b;y=1,2",
    "/q?d=%252F",
    "/x?u=http%3A%2F%2Fi.example%2Fa.jpg&s=1",
    "/x?u=http://i.example//a/../b.jpg",
    "/v1/fill/w_303,h_170,al_c/a.jpg",
    "/y?Signature=ab%2Bc%3D&&=&a",
    "/?",
    "/a??b",
]


@pytest.mark.parametrize("target", KEPT)
def test_what_may_have_a_meaning_stays(target: str) -> None:
    assert normalize(f"http://example.com{target}") == f"http://example.com{target}"


# How each piece of a path or query is sent; pieces that are sent alike mean the same.
PIECES = {
    **{c: c for c in "!$&'()*+,;=:@aZ9-_~"},
    **{f"%{ord(c):02x}": f"%{ord(c):02X}" for c in "!$&'()*+,;=:@/?#[]% |\"<>"},
    **{f"%{ord(c):02X}": c for c in "aZ9-_~"},
    " ": "%20",
    "é": "%C3%A9",
    "%c3%A9": "%C3%A9",
    "%e9": "%E9",
    "%FF": "%FF",
    "|": "|",
    "[": "[",
    "/": "/",
    '"': "%22",
}


@given(st.lists(st.sampled_from(sorted(PIECES))), st.lists(st.sampled_from(sorted(PIECES))))
def test_urls_of_different_meaning_never_become_one(path: list[str], query: list[str]) -> None:
    sent = [PIECES[piece] for piece in path], [PIECES[piece] for piece in query]
    url = f"http://example.com/{''.join(path)}?{''.join(query)}#"
    assert normalize(url) == f"http://example.com/{''.join(sent[0])}?{''.join(sent[1])}"


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
        ("http://example.com/a\x0bb", "bad_url"),
        ("http://example.com/a\ud800b", "bad_url"),
        ("http://exa mple.com/", "bad_url"),
        ("http://", "bad_url"),
        ("http:///x", "bad_url"),
        ("http://a:b:80/", "bad_url"),
        ("http://example.com:0/", "bad_url"),
        ("http://example.com:8²/", "bad_url"),
        ("http://[::1]x/", "bad_url"),
        ("http://[v1.a]/", "bad_url"),
        ("http://exam%20ple.com/", "bad_url"),
        ("http://exam%2Fple.com/", "bad_url"),
        ("http://exam%ple.com/", "bad_url"),
        ("http://a／b.com/", "bad_url"),
        ("http://example.com\\x@evil.org/", "bad_url"),
        ("http://１２７．１/", "bad_url"),
        ("http://xn--/", "bad_url"),
        ("http://xn--abc-/", "bad_url"),
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
    assert join(once, once) == once
    assert once.isascii()


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/b c.jpg", "http://h:8/b%20c.jpg"),
        ("b.jpg", "http://h:8/p/b.jpg"),
        ("../b.jpg", "http://h:8/b.jpg"),
        ("./", "http://h:8/p/"),
        ("?b=/../c", "http://h:8/p/q?b=/../c"),
        ("#part", "http://h:8/p/q?r=/s"),
        ("//cdn.example/x", "http://cdn.example/x"),
        ("\\\\cdn.example\\x", "http://cdn.example/x"),
        ("/\\cdn.example/x", "http://cdn.example/x"),
        ("https://cdn.example", "https://cdn.example/"),
        ("HTTP:x", "http://h:8/p/x"),
        ("http:/x", "http://h:8/x"),
        ("http:\\x", "http://h:8/x"),
        ("http:\\\\a\\x", "http://a/x"),
        ("https:/a/x", "https://a/x"),
        ("a//b/https://c/d.jpg", "http://h:8/p/a//b/https://c/d.jpg"),
        ("  /x \r\n", "http://h:8/x"),
        ("/x#part", "http://h:8/x"),
        ("/caf\udce9?\udce9", "http://h:8/caf%E9?%E9"),
        ("/café", "http://h:8/caf%C3%A9"),
        ("/a%2Fb%e9", "http://h:8/a%2Fb%E9"),
        ("//a//b", "http://a//b"),
        ("ftp://a/b", None),
        ("mailto:a", None),
        ("http://u:p@a/", None),
        ("///a", None),
        ("//a b/", None),
    ],
)
def test_references_lead_where_browsers_go(reference: str, expected: str | None) -> None:
    try:
        target = join("http://h:8/p/q?r=/s", reference)
    except InvalidURLError:
        target = None
    assert target == expected


@given(st.text(max_size=60))
def test_any_text_is_normalised_or_raises_an_error(text: str) -> None:
    try:
        normalized = normalize(text)
    except InvalidURLError as error:
        assert error.reason in ("bad_url", "bad_scheme")
    else:
        assert normalized.startswith(("http://", "https://"))


def test_rules_check_length_and_patterns() -> None:
    rules = UrlRules(max_url_length=30, patterns=(r"/ads?/", r"\.svg$"))
    assert rules.check("http://example.com/a.jpg") == ("http://example.com/a.jpg", None)
    assert rules.check("http://example.com/ad/a.jpg")[1] == "blocked_pattern"
    assert rules.check("http://example.com/%61d/b")[1] == "blocked_pattern"
    assert rules.check("http://example.com/" + "a" * 30) == (None, "bad_url")
    with pytest.raises(ValueError, match="it is too long"):
        canonical_host("%61" * 1_400)
