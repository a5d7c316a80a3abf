"""Block lists in all published forms."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import RecipeError
from curation.media.web import urls
from curation.media.web.block_list import MAX_LINES_NAMED, parse_block_list
from tests.ingest.helpers import pairs, source, write


def parse(text: str) -> frozenset[str]:
    return parse_block_list(text.encode("utf-8", "surrogateescape"), "block.txt")


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda d: d,
    "upper case": str.upper,
    "dot at the end": lambda d: f"{d}.",
    "dot at the start": lambda d: f".{d}",
    "wildcard": lambda d: f"*.{d}",
    "spaces": lambda d: f"  {d}\t",
    "hosts": lambda d: f"0.0.0.0 {d}",
    "hosts with a tab": lambda d: f"127.0.0.1\t{d}",
    "hosts of IPv6": lambda d: f"::1 {d}",
    "hosts of nothing": lambda d: f":: {d} # why",
    "hosts of a short zero": lambda d: f"0 {d}",
    "hosts of several": lambda d: f"0.0.0.0 localhost {d}",
    "adblock": lambda d: f"||{d}^",
    "adblock without end": lambda d: f"||{d}",
    "adblock with options": lambda d: f"||{d}^$third-party,important",
    "adblock of URLs": lambda d: f"|http://{d}/",
    "adblock wildcard": lambda d: f"||*.{d}^",
    "adblock without start": lambda d: f"{d}^",
    "dnsmasq": lambda d: f"address=/{d}/0.0.0.0",
    "dnsmasq of nothing": lambda d: f"address=/{d}/",
    "dnsmasq unknown": lambda d: f"address=/{d}/#",
    "dnsmasq IPv6": lambda d: f"address=/{d}/::",
    "dnsmasq server": lambda d: f"server=/{d}/",
    "dnsmasq local": lambda d: f"local=/{d}/",
    "URL": lambda d: f"http://{d}/",
    "URL without a path": lambda d: f"HTTPS://{d}",
    "URL with a port": lambda d: f"https://{d}:8443/",
    "URL of any scheme": lambda d: f"*://*.{d}/*",
    "host and port": lambda d: f"{d}:8080",
    "zone": lambda d: f"{d} CNAME .",
    "zone wildcard": lambda d: f"*.{d}  IN  CNAME  .",
    "zone with a time": lambda d: f"{d}. 300 IN CNAME . ; why",
    "zone no data": lambda d: f"{d} CNAME *.",
    "zone drop": lambda d: f"{d} CNAME rpz-drop.",
    "zone address": lambda d: f"{d} A 0.0.0.0",
    "quoted": lambda d: f'"{d}"',
    "cell": lambda d: f"{d},",
    "quoted cell": lambda d: f'"{d}";',
    "comment after": lambda d: f"{d} # why",
    "comment close after": lambda d: f"{d}#why",
    "slashes after": lambda d: f"{d} // why",
    "mark after": lambda d: f"{d} ! why",
}
DOMAINS = {
    "bad.example": "bad.example",
    "a_b.bad-.example": "a_b.bad-.example",
    "bücher.example": "xn--bcher-kva.example",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "例え.テスト": "xn--r8jz45g.xn--zckzah",
    "i❤.ws": "xn--i-7iq.ws",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_form_blocks_its_domain(form: str, domain: str) -> None:
    assert parse(FORMS[form](domain)) == {DOMAINS[domain]}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("0.0.0.0 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:80", "192.0.2.7"),
        ("2001:DB8::0:1", "[2001:db8::1]"),
        ("http://[2001:db8::1]:80/", "[2001:db8::1]"),
        ("zip", "zip"),
    ],
)
def test_addresses_and_top_level_domains_are_blocked(line: str, expected: str) -> None:
    assert parse(line) == {expected}


def test_one_line_may_name_several_domains() -> None:
    assert parse("0.0.0.0 a.example b.example") == {"a.example", "b.example"}
    assert parse("address=/a.example/b.example/") == {"a.example", "b.example"}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_all_systems_are_read(newline: str, mark: str) -> None:
    text = mark + newline.join(["domain", "a.example", "", "# c", "b.example"])
    assert parse(text) == {"a.example", "b.example"}
    assert parse_block_list(text.lstrip("\ufeff").encode("utf-16"), "x") == parse(text)


def test_comments_and_what_belongs_to_the_form_block_nothing() -> None:
    text = """
[Adblock Plus 2.0]
! Title: a list
# comment
## heading
// comment
; comment
127.0.0.1 localhost localhost.localdomain
255.255.255.255 broadcasthost
::1 ip6-localhost ip6-loopback
fe80::1%lo0 localhost
ff02::1 ip6-allnodes
$TTL 30
$ORIGIN rpz.example.
@ IN SOA localhost. root.localhost. (
        2024 ; serial
        1h 15m 30d 2h )
  IN NS localhost.
@ 3600 IN SOA a. b. 1 2 3 4 5
"""
    assert parse(text) == frozenset()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("@@||good.example^", "exception"),
        ("||x.example/ads/*", "part of a host"),
        ("||x.example^$script", "script"),
        ("||x.example^$third-party,domain=y.example", "domain=y.example"),
        ("x.example##.ad", "hides"),
        ("x.example#@#.ad", "hides"),
        ("/ads[0-9]+/", "part of a host"),
        ("http://x.example/page.html", "part of a host"),
        ("x.example/page", "part of a host"),
        ("http://x.example?q", "part of a host"),
        ("10.0.0.0/8", "part of a host"),
        ("server=/x.example/192.0.2.1", "forwards"),
        ("server=/x.example/#", "forwards"),
        ("192.168.1.7 nas.example", "0.0.0.0"),
        ("x.example CNAME rpz-passthru.", "rpz-passthru"),
        ("32.7.2.0.192.rpz-ip CNAME .", "trigger"),
        ("x.example A 192.0.2.1", "192.0.2.1"),
        ("x.example,malware,2024", "columns"),
        ("x.example;malware", "columns"),
        ("two words", "words"),
        ("x.*", "`*`"),
        ("*x.example", "`*`"),
        ("*", "`*`"),
        ("*.", "`*`"),
        (r"(^|\.)x\.example$", "characters"),
        ("user@x.example", "characters"),
        ("a..example", "empty"),
        ("x" * 64 + ".example", "too long"),
        ("127.1", "octets"),
        ("bücher\udce9.example", "UTF-8"),
        ('local-zone: "x.example" refuse', "words"),
    ],
)
def test_a_line_without_effect_is_refused_with_its_number(line: str, why: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse(f"# list\na.example\n{line}\n")
    message = str(error.value)
    assert "block.txt, line 3" in message
    assert why in message
    assert "Valid is" in message


def test_an_error_names_the_first_lines_and_counts_the_others() -> None:
    with pytest.raises(RecipeError) as error:
        parse("a b\n" * (MAX_LINES_NAMED + 5))
    assert str(error.value).count("block.txt, line") == MAX_LINES_NAMED
    assert "and 5 more" in str(error.value)


@given(st.text(max_size=40).filter(lambda line: not set(line) & set("\r\n")))
def test_any_line_is_read_or_refused(line: str) -> None:
    try:
        domains = parse(line)
    except RecipeError:
        return
    assert all(domain.isascii() and domain == domain.lower() for domain in domains)


LONG = {
    "spaces": "a" + " " * 8_000 + "b\n",
    "heads": "x SOA (\n",
    "names of heads": " SOA" * 2_000 + "\n",
    "a long line": "a" * 2_000_000 + " b\n",
    "wrong lines": "a b\n",
}


@pytest.mark.parametrize("name", LONG)
def test_no_list_takes_long(name: str) -> None:
    text, started = LONG[name] * (1 + 1_000_000 // len(LONG[name])), time.process_time()
    with contextlib.suppress(RecipeError):
        parse(text)
    assert time.process_time() - started < 10


def test_a_line_of_a_book_is_refused() -> None:
    with pytest.raises(RecipeError, match="it has more than 8,192 characters"):
        parse("a" * 10_000)
    assert parse("# " + "a" * 10_000) == frozenset()


def test_a_block_list_is_read_up_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "MAX_BLOCK_LIST_BYTES", 10)
    listed = write(tmp_path / "l.parquet", [{"url": "http://a.example/1", "caption": "c"}])
    blocked = tmp_path / "block.txt"
    blocked.write_text("a.example\n")
    (row,) = pairs(tmp_path / "store", source(listed), blocked_domains=str(blocked))
    assert row["reason"] == "blocked_domain"
    blocked.write_text("a.example\n\n")
    with pytest.raises(RecipeError, match=r"block\.txt' has more than"):
        pairs(tmp_path / "store", source(listed), blocked_domains=str(blocked))
