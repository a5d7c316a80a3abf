"""Pictures over HTTP: redirects, failures, time limits, and sizes."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from curation.media.web.content_coding import decode_body
from curation.media.web.opt_outs.site import MAX_FILE_BYTES
from curation.stages.fetch import client
from curation.stages.fetch.byte_budget import ByteBudget
from tests.fetch import virtual_clock
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import encoded, fetched, images, picture, reason
from tests.ingest.helpers import source, write

JPEG = encoded(picture())


def test_a_fetched_image_has_all_its_columns(web: Web, tmp_path: Path) -> None:
    web.pages["/a.jpg"] = answer(JPEG)
    about = {"user_agent": "tester/1", "contact": "http://a.example"}
    (row,) = fetched(tmp_path, [web.url("/a.jpg")], **about)
    sha256 = hashlib.sha256(JPEG).hexdigest()
    assert row["status"] == "ok"
    assert (row["sha256"], row["image_id"], row["bytes"]) == (sha256, sha256[:32], len(JPEG))
    assert (row["format"], row["width"], row["height"]) == ("jpeg", 60, 40)
    assert (row["original_width"], row["original_height"]) == (60, 40)
    assert row["image"] == JPEG
    (headers,) = web.headers
    assert headers["user-agent"] == "tester/1 (+http://a.example)"
    assert "cookie" not in headers


def test_a_body_is_decoded_to_the_largest_size_alone(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []

    def decoding(content: bytes, coding: str, limit: int) -> bytes:
        limits.append(limit)
        return decode_body(content, coding, limit)

    monkeypatch.setattr(client, "decode_body", decoding)
    web.pages["/robots.txt"] = answer(gzip.compress(b"# none"), Content_Encoding="gzip")
    web.pages["/a"] = answer(gzip.compress(JPEG), Content_Encoding="gzip")
    assert reason(tmp_path, web.url("/a"), max_bytes=50_000) is None
    assert limits == [MAX_FILE_BYTES, 50_001]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (answer(status="404 Not Found"), "http_404"),
        (answer(status="410 Gone"), "http_410"),
        (answer(status="204 No Content"), "http_204"),
        (answer(status="500 Oops"), "http_500"),
        (answer(), "empty"),
        (answer(b"<!DOCTYPE html><p>gone"), "not_an_image"),
        (answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "format_svg"),
        (answer(JPEG[: len(JPEG) // 2]), "truncated"),
        (answer(JPEG, length=len(JPEG) + 100), "connection_error"),
        (answer(b"x" * 2000, length=10**9), "too_large"),
        (answer(b"x" * 60_000), "too_large"),
        (answer(b"x" * 60_000, length=None), "too_large"),
        (answer(gzip.compress(b"\0" * 50_000_000), Content_Encoding="gzip"), "too_large"),
        (answer(gzip.compress(JPEG), Content_Encoding="gzip"), None),
        (answer(b"junk", Content_Encoding="gzip"), "not_an_image"),
        (answer(gzip.compress(JPEG)[:10] + b"\xff" * 200, Content_Encoding="gzip"), "bad_response"),
        (answer(JPEG, X_Long="x" * 100_000), "bad_response"),
        (b"no http at all\r\n\r\n", "bad_response"),
        (b"", "connection_error"),
        (answer(status="302 Found"), "bad_redirect"),
        (answer(status="302 Found", Location="ftp://a.example/x"), "bad_redirect"),
        (answer(status="302 Found", Location="file:///etc/passwd"), "bad_redirect"),
        (answer(status="302 Found", Location="http://u:p@a.example/x"), "bad_redirect"),
        (answer(status="302 Found", Location="/page"), "too_many_redirects"),
        (answer(status="301 Moved", Location="http://10.0.0.1/x"), "private_address"),
        (answer(status="301 Moved", Location="http://[::1]/x"), "private_address"),
        (answer(status="301 Moved", Location="http://169.254.169.254/latest"), "private_address"),
    ],
)
def test_every_failure_has_its_reason(
    web: Web, tmp_path: Path, page: bytes, expected: str | None
) -> None:
    web.pages["/page"] = page
    assert reason(tmp_path, web.url("/page"), max_bytes=50_000) == expected


def test_redirects_are_followed_up_to_the_limit(web: Web, tmp_path: Path) -> None:
    for i in range(5):
        web.pages[f"/{i}"] = answer(status="307 Later", Location=f"{i + 1}?a=b%20c")
        web.pages[f"/{i}?a=b%20c"] = web.pages[f"/{i}"]
    web.pages["/5?a=b%20c"] = answer(JPEG)
    assert reason(tmp_path / "a", web.url("/0"), max_redirects=5) is None
    assert reason(tmp_path / "b", web.url("/0"), max_redirects=4) == "too_many_redirects"


def test_slow_responses_time_out(web: Web, tmp_path: Path) -> None:
    async def drip(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=1000))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def drip_head(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for i in range(10_000):
            writer.write(f"X-{i}: 1\r\n".encode())
            await writer.drain()
            await asyncio.sleep(0.05)

    async def silence(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    web.pages |= {"/body": drip, "/head": drip_head, "/silence": silence, "/ok": answer(JPEG)}
    urls = [web.url(p) for p in ("/body", "/head", "/silence", "/ok")]
    fetched(tmp_path / "warm", [web.url("/ok")])
    started = time.monotonic()
    rows = fetched(tmp_path, urls, timeout_s=2)
    assert [r["reason"] for r in rows] == ["timeout", "timeout", "timeout", None]
    # Their hosts would go on for minutes.
    assert 2 <= time.monotonic() - started < 45


def test_only_transient_failures_are_retried(web: Web, tmp_path: Path) -> None:
    def failing(times: int, page: bytes) -> None:
        async def handler(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
            writer.write(page if web.requests[path] <= times else answer(JPEG))

        path = f"/{len(web.pages)}"
        web.pages[path] = handler

    failing(2, answer(status="503 Busy"))
    failing(2, answer(status="429 Slow down", Retry_After="0"))
    failing(2, b"")
    failing(3, answer(status="503 Busy"))
    # A server may send this when a connection that was kept is used again.
    failing(2, answer(status="408 Request Timeout"))
    failing(1, answer(status="425 Too Early"))
    failing(1, answer(status="404 Not Found"))
    failing(1, answer(b"<html>"))
    rows = fetched(tmp_path, [web.url(p) for p in web.pages], retries=2)
    expected = [None, None, None, "http_503", None, None, "http_404", "not_an_image"]
    assert [r["reason"] for r in rows] == expected
    assert [web.requests[p] for p in web.pages] == [3, 3, 3, 3, 3, 2, 1, 1]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "10.1.2.3"],
)
def test_private_addresses_are_not_requested(web: Web, tmp_path: Path, host: str) -> None:
    web.pages["/"] = answer(JPEG)
    assert reason(tmp_path, web.url("/", host), allow_hosts=[]) == "private_address"
    assert not web.requests


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("localhost", "localhost"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.", "localhost"),
    ],
)
def test_allowed_hosts_open_private_networks(
    web: Web, tmp_path: Path, host: str, entry: str
) -> None:
    web.pages["/"] = answer(JPEG)
    assert reason(tmp_path, web.url("/", host), allow_hosts=[entry]) is None


def test_dns_rebinding_does_not_reach_private_addresses(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver returns another address on the second lookup."""
    lookups = []

    def rebinding(host: str, port: int, family: int = 0, kind: int = 0) -> list[object]:
        lookups.append(host)
        address = "127.0.0.1" if len(lookups) > 1 else "10.9.8.7"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    web.pages["/"] = answer(JPEG)
    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = web.url("/", "rebind.example")
    assert reason(tmp_path, url, allow_hosts=[], retries=2) == "private_address"
    assert lookups
    assert not web.requests


def test_unknown_names_and_closed_ports_have_reasons(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert reason(tmp_path / "a", f"http://127.0.0.1:{port}/") == "connection_error"
    assert reason(tmp_path / "b", "http://no-such-name.invalid/x") == "dns_error"


def test_https_to_a_server_without_tls_fails(web: Web, tmp_path: Path) -> None:
    assert reason(tmp_path, web.url("/").replace("http:", "https:")) == "tls_error"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_an_untrusted_certificate_fails(web: Web, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    order = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    order += ["-addext", "subjectAltName=IP:127.0.0.1"]
    order += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(order, check=True, capture_output=True)
    web.certify(certificate, key)
    web.pages["/"] = answer(JPEG)
    assert reason(tmp_path, f"https://127.0.0.1:{web.tls_port}/") == "tls_error"
    assert not web.requests


def test_an_image_with_another_sha256_fails(web: Web, tmp_path: Path) -> None:
    web.pages["/"] = web.pages["/?"] = answer(JPEG)
    good = hashlib.sha256(JPEG).hexdigest()
    rows = [{"url": web.url("/"), "h": good}, {"url": web.url("/") + "?", "h": "ab" * 32}]
    for i, expected in enumerate([None, "sha256_mismatch"]):
        path = write(tmp_path / f"{i}.parquet", rows[i : i + 1])
        spec = source(path, columns={"url": "url", "sha256": "h"})
        (row,) = images(tmp_path / f"s{i}", spec)
        assert (row["reason"], row["sha256"], row["bytes"]) == (expected, good, len(JPEG))


def test_concurrent_requests_are_limited(web: Web, tmp_path: Path) -> None:
    async def slow(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(answer(JPEG))

    urls = []
    for i in range(40):
        web.pages[f"/{i}"] = slow
        urls.append(web.url(f"/{i}"))
    assert {r["status"] for r in fetched(tmp_path, urls, concurrency=8)} == {"ok"}
    assert 2 <= web.max_concurrent() <= 8


def test_bodies_in_memory_are_limited() -> None:
    """The time until memory is free does not count against the timeout."""
    held, most = 0, 0

    async def body(budget: ByteBudget, size: int) -> None:
        nonlocal held, most
        async with asyncio.timeout(0.2) as deadline:
            await budget.acquire(size, deadline)
            held += size
            most = max(most, held)
            await asyncio.sleep(0.05)
            held -= size
            budget.release(size)

    async def all_bodies() -> None:
        budget = ByteBudget(100)
        await asyncio.gather(*(body(budget, size) for size in [60, 50, 40, 10, 100] * 4))

    virtual_clock.run(all_bodies())
    assert 50 <= most <= 100
    assert held == 0


def test_bodies_of_unknown_length_all_arrive_under_a_small_memory_limit(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.stages.fetch.client._MAX_BODY_BYTES_IN_MEMORY", 1)
    urls = []
    for i in range(12):
        web.pages[f"/{i}"] = answer(encoded(picture(40 + i, 40)), length=None)
        urls.append(web.url(f"/{i}"))
    assert {r["reason"] for r in fetched(tmp_path, urls, concurrency=12)} == {None}
