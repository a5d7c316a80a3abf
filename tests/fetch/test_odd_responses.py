"""Responses that are not quite valid, and what browsers and plain clients make of them."""

from __future__ import annotations

import asyncio
import gc
import gzip
import re
import socket
import time
import tracemalloc
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import brotli
import pytest
from aiohttp.http_exceptions import BadHttpMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.media.web.content_coding import decode_body
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.client import Body, Client
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.response_repair import MAX_HEAD_BYTES, ResponseRepair, parse_head
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import encoded, fetched, picture

BODY = bytes(range(256)) * 4
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"100\r\n%s\r\n300\r\n%s\r\n0\r\n\r\n" % (BODY[:256], BODY[256:])
GZIP = gzip.compress(BODY)


def ok(head: bytes = LENGTH, body: bytes = BODY, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return status + b"\r\n" + head + b"\r\n" + body


ACCEPTED = {
    "plain": ok(),
    "no content type": ok(LENGTH),
    "wrong content type": ok(LENGTH + b"Content-Type: text/html\r\nContent-Type: ;;=\r\n"),
    "length twice": ok(LENGTH + LENGTH),
    "length twice in one": ok(b"Content-Length: 1024, 1024\r\n"),
    "length with zeros": ok(b"Content-Length: 0001024\r\n"),
    "negative length": ok(b"Content-Length: -5\r\n"),
    "length of letters": ok(b"Content-Length: large\r\n"),
    "length with a sign": ok(b"Content-Length: +1024\r\n"),
    "empty length": ok(b"Content-Length:\r\n"),
    "huge length": ok(b"Content-Length: 99999999999999999999999999\r\n"),
    "body longer than its length": ok(body=BODY + b"<script>more</script>"),
    "no length": ok(b""),
    "length and chunks": ok(b"Content-Length: 5\r\n" + CHUNKED, CHUNKS),
    "chunks and length": ok(CHUNKED + b"Content-Length: 5\r\n", CHUNKS),
    "identity and length": ok(b"Transfer-Encoding: identity\r\n" + LENGTH),
    "chunks": ok(CHUNKED, CHUNKS),
    "chunked twice": ok(CHUNKED + CHUNKED, CHUNKS),
    "Chunked": ok(b"Transfer-Encoding: Chunked\r\n", CHUNKS),
    "chunks of HTTP/1.0": ok(CHUNKED, CHUNKS, b"HTTP/1.0 200 OK"),
    "chunk extension": ok(CHUNKED, CHUNKS.replace(b"100\r\n", b"100;a=b\r\n", 1)),
    "quoted chunk extension": ok(CHUNKED, CHUNKS.replace(b"100\r\n", b'100 ; a="b;c"\r\n', 1)),
    "chunk size with zeros": ok(CHUNKED, CHUNKS.replace(b"100\r\n", b"000100  \r\n", 1)),
    "chunk size with many zeros": ok(CHUNKED, CHUNKS.replace(b"100\r\n", b"%020x\r\n" % 256, 1)),
    "chunk lines without CR": ok(CHUNKED, b"100\n%s\n300\n%s\n0\n\n" % (BODY[:256], BODY[256:])),
    "small chunks": ok(CHUNKED, b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"),
    "trailers": ok(CHUNKED, CHUNKS[:-2] + b"Content-MD5: x\r\nX: y\r\n\r\n"),
    "no line after the last chunk": ok(CHUNKED, CHUNKS[:-2]),
    "folded field": ok(LENGTH + b"X-A: a\r\n  b\r\n\tc\r\n"),
    "folded length": ok(b"Content-Length:\r\n 1024\r\n"),
    "folded first line": ok(b" X-A: a\r\n" + LENGTH),
    "many fields": ok(LENGTH + b"".join(b"X-%d: y\r\n" % n for n in range(5000))),
    "large field": ok(LENGTH + b"Set-Cookie: " + b"y" * 60_000 + b"\r\n"),
    "no colon": ok(LENGTH + b"garbage\r\n"),
    "no name": ok(LENGTH + b": x\r\n"),
    "strange name": ok(LENGTH + b"X (A): b\r\n"),
    "space before the colon": ok(b"X-A : b\r\nContent-Length : 1024\r\n"),
    "control characters": ok(LENGTH + b"X-A: a\0b\x01\rc\xe9\r\n"),
    "upgrade offered": ok(LENGTH + b"Upgrade: h2,h2c\r\nConnection: Upgrade, close\r\n"),
    "no CR": ok().replace(b"\r\n", b"\n", 3),
    "empty lines first": b"\r\n\r\n" + ok(),
    "HTTP/1.0": ok(b"", status=b"HTTP/1.0 200 OK"),
    "no reason": ok(status=b"HTTP/1.1 200"),
    "reason not UTF-8": ok(status=b"HTTP/1.1 200 \xe9"),
    "long reason": ok(status=b"HTTP/1.1 200 " + b"O" * 20_000),
    "HTTP/1.2": ok(status=b"HTTP/1.2 200 OK"),
    "HTTP/2": ok(status=b"HTTP/2 200"),
    "lower case": ok(status=b"http/1.1 200 ok"),
    "ICY": ok(status=b"ICY 200 OK"),
    "interim responses": b"HTTP/1.1 100 Continue\r\n\r\n"
    + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3
    + ok(),
    "203": ok(status=b"HTTP/1.1 203 Non-Authoritative"),
    "206 of the whole": ok(
        LENGTH + b"Content-Range: bytes 0-1023/1024\r\n", status=b"HTTP/1.1 206 Partial"
    ),
    "identity": ok(LENGTH + b"Content-Encoding: identity\r\n"),
    "no coding": ok(LENGTH + b"Content-Encoding:\r\n"),
    "unknown coding": ok(LENGTH + b"Content-Encoding: none\r\n"),
    "gzip": ok(b"Content-Encoding: gzip\r\n", GZIP),
    "X-GZIP": ok(b"Content-Encoding: X-GZIP\r\n", GZIP),
    "gzip in parts": ok(
        b"Content-Encoding: gzip\r\n", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])
    ),
    "gzip and more": ok(b"Content-Encoding: gzip\r\n", GZIP + b"\0\0\0"),
    "gzip twice": ok(b"Content-Encoding: gzip, gzip\r\n", gzip.compress(GZIP)),
    "deflate": ok(b"Content-Encoding: deflate\r\n", zlib.compress(BODY)),
    "raw deflate": ok(b"Content-Encoding: deflate\r\n", zlib.compress(BODY)[2:-4]),
    "brotli": ok(b"Content-Encoding: br\r\n", brotli.compress(BODY)),
    "deflate, then brotli": ok(
        b"Content-Encoding: deflate\r\nContent-Encoding: br\r\n",
        brotli.compress(zlib.compress(BODY)),
    ),
    "called gzip": ok(LENGTH + b"Content-Encoding: gzip\r\n"),
}
REFUSED = {
    "two lengths": (ok(LENGTH + b"Content-Length: 3\r\n"), "bad_response"),
    "body shorter than its length": (ok(b"Content-Length: 2000\r\n"), "connection_error"),
    "chunks without an end": (ok(CHUNKED, CHUNKS[:-5]), "connection_error"),
    "chunk too long": (ok(CHUNKED, b"5\r\n" + BODY), "connection_error"),
    "chunks of one byte": (ok(CHUNKED, b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"), "connection_error"),
    "no HTTP": (BODY + b"\r\n\r\n", "bad_response"),
    "other protocol": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + ok(),
        "bad_response",
    ),
    "too large a head": (
        ok(LENGTH + b"X: y\r\n" * (MAX_HEAD_BYTES // 6)),
        "bad_response",
    ),
    "interim responses without end": (
        b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_HEAD_BYTES // 20),
        "bad_response",
    ),
    "too large a field": (ok(LENGTH + b"X: " + b"y" * 70_000 + b"\r\n"), "bad_response"),
    "206 of a part": (
        ok(LENGTH + b"Content-Range: bytes 0-1023/2048\r\n", status=b"HTTP/1.1 206 Partial"),
        "http_206",
    ),
    "206 without a range": (ok(status=b"HTTP/1.1 206 Partial"), "http_206"),
    "202": (ok(status=b"HTTP/1.1 202 Accepted"), "http_202"),
    "204 with a body": (ok(status=b"HTTP/1.1 204 No Content"), "http_204"),
    "304": (ok(status=b"HTTP/1.1 304 Not Modified"), "http_304"),
}
PAGES = ACCEPTED | {name: page for name, (page, _) in REFUSED.items()}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(PAGES[unquote(head.split(b" ")[1].decode()[1:])])
        await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def outcomes() -> dict[str, bytes | str]:
    """The content of each page, or the reason why there is none."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found: dict[str, bytes | str] = {}
    async with server, Client(FetchParams(allow_hosts=["127.0.0.1"], timeout_s=5)) as client:
        for name in PAGES:
            try:
                body = await client.get(f"http://127.0.0.1:{port}/{quote(name, safe='')}")
            except FetchError as error:
                found[name] = error.reason
            else:
                assert isinstance(body, Body)
                found[name] = body.content
    return found


def test_odd_responses_give_what_browsers_get() -> None:
    results = asyncio.run(outcomes())
    expected: dict[str, bytes | str] = dict.fromkeys(ACCEPTED, BODY)
    expected |= {name: reason for name, (_, reason) in REFUSED.items()}
    assert [name for name in PAGES if results[name] != expected[name]] == []


def repaired(content: bytes, cuts: list[int]) -> bytes | None:
    repair, out, start = ResponseRepair(), b"", 0
    try:
        for cut in [*sorted(cuts), len(content)]:
            if cut > start:
                out += repair.feed(content[start:cut])
                start = cut
    except BadHttpMessage:
        return None
    return out


@pytest.mark.parametrize("name", PAGES)
def test_a_response_is_freed_without_a_search_for_garbage(name: str) -> None:
    gc.disable()
    try:
        repair = ResponseRepair()
        freed = weakref.ref(repair)
        with suppress(BadHttpMessage):
            repair.feed(PAGES[name])
        del repair
        assert freed() is None
    finally:
        gc.enable()


@settings(deadline=None)
@given(st.sampled_from(sorted(PAGES)), st.lists(st.integers(0, 1500), max_size=6))
def test_repair_does_not_depend_on_how_bytes_arrive(name: str, cuts: list[int]) -> None:
    assert repaired(PAGES[name], cuts) == repaired(PAGES[name], [])


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_are_repaired_or_refused(content: bytes, cuts: list[int]) -> None:
    repaired(content, cuts)
    repaired(b"HTTP/1.1 200 OK\r\n" + content, cuts)
    repaired(ok(CHUNKED, content), cuts)


@given(
    st.binary(max_size=200),
    st.sampled_from(["gzip", "x-gzip", "deflate", "br", "gzip, br", "identity", "", "br,br,br,br"]),
    st.integers(1, 100),
)
def test_decoded_bodies_keep_their_limit(content: bytes, coding: str, limit: int) -> None:
    try:
        assert len(decode_body(content, coding, limit)) <= limit
    except FetchError as error:
        assert error.reason == "bad_response"


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        ("gzip", gzip.compress(bytes(10**7))),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(10**7)))),
        ("gzip", gzip.compress(b"") * 50_000),
        ("deflate", zlib.compress(bytes(10**7))),
        ("br", brotli.compress(bytes(10**7), quality=1)),
    ],
)
def test_bombs_are_cut_at_the_limit(coding: str, content: bytes) -> None:
    assert len(decode_body(content, coding, 1000)) <= 1000


def test_a_connection_is_kept_after_odd_responses(web: Web, tmp_path: Path) -> None:
    jpeg = encoded(picture())
    for n in range(4):
        web.pages[f"/{n}"] = answer(jpeg) + b"\r\n"
    rows = fetched(tmp_path, [web.url(f"/{n}") for n in range(4)], concurrency=1)
    assert {row["reason"] for row in rows} == {None}


TARGETS = [
    "/w_100%2Ch_50/a.jpg",
    "/caf%E9.jpg",
    "/x?u=http%3A%2F%2Fi.example%2Fa.jpg&s=1",
    "//a//b.jpg",
    "/100%.jpg",
    "/c.jpg?crop=1,2&x=a|b&y=[1]",
    "/empty?",
]
LOCATIONS = {
    "/b c.jpg": "/b%20c.jpg",
    "/caf\u00e9.jpg": "/caf%C3%A9.jpg",
    "/latin\udce9.jpg": "/latin%E9.jpg",
    "rel.jpg#part": "/rel.jpg",
    "./dots/../d.jpg": "/d.jpg",
    "?only=query": "/from5?only=query",
    "//127.0.0.2:PORT/other.jpg": "/other.jpg",
    "\\back.jpg": "/back.jpg",
}


def test_the_request_line_has_what_the_list_says(web: Web, tmp_path: Path) -> None:
    jpeg = encoded(picture())
    web.pages |= {target: answer(jpeg) for target in TARGETS}
    rows = fetched(tmp_path, [web.url(target) for target in TARGETS])
    assert {row["url"]: row["reason"] for row in rows} == {web.url(t): None for t in TARGETS}
    assert sorted(web.requests) == sorted(TARGETS)


def test_odd_redirects_lead_where_browsers_go(web: Web, tmp_path: Path) -> None:
    jpeg, urls = encoded(picture()), []
    statuses = ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent")
    for n, (location, target) in enumerate(LOCATIONS.items()):
        page = answer(status=statuses[n % 5], Location="LOCATION")
        raw = location.replace("PORT", str(web.port)).encode("utf-8", "surrogateescape")
        web.pages[f"/from{n}"] = page.replace(b"LOCATION", raw)
        web.pages[target] = answer(jpeg)
        urls.append(web.url(f"/from{n}"))
    rows = fetched(tmp_path, urls)
    assert {row["url"]: row["reason"] for row in rows} == dict.fromkeys(urls)


def test_hosts_that_browsers_open_are_requested(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = {
        "my-blog-.example.com": "my-blog-.example.com",
        "-photos.example.com": "-photos.example.com",
        "a_b.example.com.": "a_b.example.com",
        "i❤.ws": "xn--i-7iq.ws",
        "straße.example": "xn--strae-oqa.example",
        "ＷＩＤＥ。example": "wide.example",
        "例え.テスト": "xn--r8jz45g.xn--zckzah",
    }
    lookup = socket.getaddrinfo

    def local(host: str, *rest: object) -> object:
        host = HOSTS[0] if host.endswith((".com", ".ws", ".example", "zckzah")) else host
        return lookup(host, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", local)
    web.pages["/a.jpg"] = answer(encoded(picture()))
    urls = [web.url("/a.jpg", host) for host in hosts]
    rows = fetched(tmp_path, urls)
    assert {row["url"]: row["reason"] for row in rows} == dict.fromkeys(urls)
    assert sorted({visit.host for visit in web.visits()}) == sorted(hosts.values())


ENDS_EARLY = {
    "length": b"Content-Length: 900000\r\n\r\n" + bytes(800_000),
    "chunks": CHUNKED + b"\r\ndbba0\r\n" + bytes(800_000),
    "too large": b"\r\n" + bytes(1_100_000),
}


@pytest.mark.parametrize("name", ENDS_EARLY)
def test_no_body_outlives_its_failure(name: str) -> None:
    """Else they would be in memory beside those that the budget of bodies counts."""
    requests = 10

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + ENDS_EARLY[name])
        writer.close()

    async def kept() -> int:
        server = await asyncio.start_server(respond, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        limits = FetchParams(allow_hosts=["127.0.0.1"], max_bytes=1_000_000)
        async with server, Client(limits) as client:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(requests):
                with pytest.raises(FetchError):
                    await client.get(f"http://127.0.0.1:{port}/{number}")
            return tracemalloc.get_traced_memory()[0] - before

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        # Less than what the client library itself holds of a response: two of its chunks.
        assert asyncio.run(kept()) < requests * 2 * 2**17
    finally:
        tracemalloc.stop()
        gc.enable()


def folded(head: bytes) -> tuple[bytes, int, dict[bytes, list[bytes]]]:
    """What `parse_head` gives, line by line."""
    _first, *lines = re.split(rb"\r?\n", head.rstrip(b"\r\n"))
    fields: list[list[bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if fields:
                fields[-1][-1] += b" " + line.strip()
        elif b":" in line:
            name, _, value = line.partition(b":")
            fields.append([name.strip().lower(), value.strip(b" \t")])
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name, []).append(b" ".join(value.split()))
    return b"1.1", 200, found


LINES = st.sampled_from([b"a: b", b"c:", b" d", b"\te ", b" ", b"f : g  ", b"  h  ", b"a:i"])


@given(lines=st.lists(LINES, max_size=12), end=st.sampled_from([b"\n", b"\r\n"]))
def test_folded_fields_are_joined(lines: list[bytes], end: bytes) -> None:
    head = end.join([b"HTTP/1.1 200 OK", *lines, b"", b""])
    version, status, fields = parse_head(head)
    plain = {n: [b" ".join(v.split()) for v in values] for n, values in fields.items()}
    assert (version, status, plain) == folded(head)


@pytest.mark.parametrize("fold", [b" ", b"\t a", b"\r\n ", b"\n\t", b" \r\n ", b"\r\n a"])
def test_many_folds_take_no_time(fold: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\na: b" + fold * 60_000 + b"\r\n\r\n"
    started = time.process_time()
    for _ in range(5):
        with suppress(BadHttpMessage):
            parse_head(head)
    assert time.process_time() - started < 1


def test_many_interim_responses_are_refused() -> None:
    repair = ResponseRepair()
    repair.feed(b"HTTP/1.1 103 Hints\r\n\r\n" * 100)
    with pytest.raises(BadHttpMessage, match="interim"):
        repair.feed(b"HTTP/1.1 103 Hints\r\n\r\n")


@pytest.mark.parametrize("large", [0, 20_000])
def test_chunks_are_bounded_by_their_number_and_size(large: int) -> None:
    small = b"1\r\nx\r\n"
    repair = ResponseRepair()
    repair.feed(ok(CHUNKED, b"40\r\n%s\r\n" % (b"x" * 64) * large + small * 10_000))
    assert not repair.broken
    repair.feed(small)
    assert repair.broken


FIELDS = b"X: y\r\n" * 40_000
HEADS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "head": (
        lambda size: ok(FIELDS + b"Z:%s\r\n" % (b"z" * (size - len(FIELDS) - 23)), b""),
        2**18,
    ),
    "field": (lambda size: ok(b"X: %s\r\n" % (b"y" * size)), 2**16),
    "status": (lambda size: ok(status=b"HTTP/1.1 200".ljust(size, b"x")), 2**16),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_read_up_to_their_limit(name: str) -> None:
    written, limit = HEADS[name]
    ResponseRepair().feed(written(limit))
    with pytest.raises(BadHttpMessage):
        ResponseRepair().feed(written(limit + 1))
