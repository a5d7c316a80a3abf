"""A web in which many things go wrong at once: each row gets its reason, and all end in time."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from pathlib import Path

import pytest

from tests.fetch.conftest import HOSTS, Handler, Web, answer
from tests.fetch.helpers import encoded, fetched, picture

JPEG = encoded(picture())
LIMIT = 100_000


async def flood_of_headers(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(1_000_000):
        writer.write(b"X-%d: %s\r\n" % (n, b"y" * 100))
        await writer.drain()


async def endless_body(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
    writer.write(answer(JPEG, length=None))
    while True:
        writer.write(b"z" * 4096)
        await writer.drain()


async def drip(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
    writer.write(answer(length=1000))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def nothing(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


def chunked(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    )


CASES: dict[str, tuple[bytes | Handler, str | None]] = {
    "fine": (answer(JPEG), None),
    "old": (b"HTTP/1.0 200 OK\r\n\r\n" + JPEG, None),
    "closed-though-kept": (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(JPEG), JPEG),
        None,
    ),
    "chunked": (chunked(JPEG), None),
    "chunk-without-end": (chunked(JPEG)[:-9], "connection_error"),
    "negative-length": (
        answer(JPEG).replace(b"Content-Length: ", b"Content-Length: -"),
        None,
    ),
    "two-lengths": (
        answer(JPEG).replace(b"Connection", b"Content-Length: 3\r\nConnection"),
        "bad_response",
    ),
    "flood-of-headers": (flood_of_headers, "bad_response"),
    "long-header": (answer(JPEG, X_Long="x" * 100_000), "bad_response"),
    "endless": (endless_body, "too_large"),
    "drip": (drip, "timeout"),
    "silent": (nothing, "timeout"),
    "hangs-up": (b"", "connection_error"),
    "bomb": (answer(gzip.compress(b"\0" * 50_000_000), Content_Encoding="gzip"), "too_large"),
    "html": (answer(b"<html><img src=x>", Content_Type="image/jpeg"), "not_an_image"),
    "called-text": (answer(JPEG, Content_Type="text/html"), None),
    "half": (answer(JPEG[: len(JPEG) // 2]), "truncated"),
    "loop": (answer(status="302 Found", Location="/loop"), "too_many_redirects"),
    "inwards": (answer(status="302 Found", Location="http://169.254.169.254/x"), "private_address"),
    "rebound": (answer(status="302 Found", Location="http://rebind.example/x"), "private_address"),
    "away": (answer(status="302 Found", Location="gopher://a.example/x"), "bad_redirect"),
    "secret": (answer(JPEG), "robots_disallowed"),
    "sent-to-secret": (answer(status="301 Moved", Location="/secret"), "robots_disallowed"),
    "unwilling": (answer(JPEG, X_Robots_Tag="noai"), "opted_out_x_robots_tag"),
    "gone": (answer(status="410 Gone"), "http_410"),
    "broken": (answer(status="500 Oops"), "http_500"),
    "busy": (answer(status="429 Slow", Retry_After="0"), "http_429"),
    "teapot": (answer(JPEG, status="299 Strange"), "http_299"),
}


def test_each_row_of_a_hostile_web_gets_its_reason_in_time(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup, lookups = socket.getaddrinfo, []

    def rebinding(host: str, *rest: object) -> object:
        if host != "rebind.example":
            return lookup(host, *rest)  # type: ignore[arg-type]
        lookups.append(host)
        address = "127.0.0.1" if len(lookups) > 1 else "10.9.8.7"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, web.port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    web.pages = {f"/{name}": page for name, (page, _) in CASES.items()}
    web.pages["/robots.txt"] = answer(b"User-agent: *\nDisallow: /secret\n")
    # On one host, a failure would affect the rows after it.
    urls = [web.url(f"/{name}", HOSTS[n % len(HOSTS)]) for n, name in enumerate(CASES)]
    fetched(tmp_path / "warm", urls[:1])
    # The allowed networks do not allow a name whose address changes into them.
    allowed = [*HOSTS]
    started = time.monotonic()
    few = {"concurrency": 2, "per_second": None}
    rows = fetched(
        tmp_path,
        urls,
        timeout_s=3,
        retries=1,
        max_bytes=LIMIT,
        per_host=few,
        allow_hosts=allowed,
    )
    assert time.monotonic() - started < 60
    reasons = {row["url"].rsplit("/", 1)[1]: row["reason"] for row in rows}
    assert reasons == {name: reason for name, (_, reason) in CASES.items()}
    assert not web.requests["/secret"]
    assert all(web.max_concurrent(host) <= 2 for host in HOSTS)
    assert not any(v.host == "rebind.example" for v in web.log)
