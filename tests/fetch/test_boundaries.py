"""What one row, host or answer causes costs itself: an exception that nothing foresaw is its reason."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.errors import LeaseError, StoreError
from curation.media.web.failure_reasons import is_permanent
from curation.media.web.fetch_error import MAX_DETAIL
from curation.media.web.session import request_target
from curation.stages.fetch import client, crawl
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import OPEN, encoded, fetched, picture
from tests.ingest.helpers import pairs, run, source, table, write

JPEG = encoded(picture())
BAD = HOSTS[1]


class OddError(Exception):
    """Nothing foresees it."""


def raising(function: Callable[..., Any], when: Callable[..., bool], error: Exception) -> Any:
    def wrapped(*values: Any, **named: Any) -> Any:
        if when(*values, **named):
            raise error
        return function(*values, **named)

    return wrapped


def hostile_of_bad(web: Web) -> list[str]:
    """Nine rows of good hosts, and one of BAD, which has the odd answer."""
    web.pages |= {f"/{n}": answer(JPEG) for n in range(9)}
    web.pages[f"{BAD}/bad"] = answer(status="302 Found", Location="/odd", Retry_After="odd")
    web.pages[f"{BAD}/robots.txt"] = answer(b"User-agent: *\nDisallow: /odd\n")
    web.pages[f"{BAD}/odd"] = answer(JPEG)
    urls = [web.url(f"/{n}", HOSTS[n % 4 and 2]) for n in range(9)]
    return [*urls[:3], web.url("/bad", BAD), *urls[3:]]


def of_bad(*values: Any, **named: Any) -> bool:
    return any("odd" in str(value) or BAD in str(value) for value in values)


PLACES = [
    (client, "request_target"),
    (client, "_redirect_target"),
    (client.Client, "_request"),
    (client, "join"),
    (crawl, "read_site_file"),
]
KINDS = [OddError, OverflowError, RecursionError, AttributeError, AssertionError, KeyError]
CASES = [*((place, OddError) for place in PLACES), *((PLACES[2], kind) for kind in KINDS[1:])]


@pytest.mark.parametrize(
    ("place", "kind"), CASES, ids=[f"{place[1]}-{kind.__name__}" for place, kind in CASES]
)
def test_an_exception_costs_its_row_alone(
    web: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    kind: type[Exception],
) -> None:
    module, name = place
    error = kind("a text " + "\ud800é" * 1_000)
    monkeypatch.setattr(module, name, raising(getattr(module, name), of_bad, error))
    rows = fetched(tmp_path, hostile_of_bad(web))
    assert [row["reason"] for row in rows].count(None) == 9
    (bad,) = (row for row in rows if row["reason"] is not None)
    assert (bad["status"], bad["reason"]) == ("failed", f"error_{kind.__name__}")
    detail = json.loads(bad["metadata"])["error"]
    assert detail.startswith(f"{kind.__name__}: ")
    assert "\\ud800" in detail
    assert len(detail) <= 6 * MAX_DETAIL


@pytest.mark.parametrize(
    "place",
    [
        "curation.media.web.opt_outs.site.SiteRules.opt_out",
        "curation.stages.fetch.client.header_opt_out",
        "curation.stages.fetch.client.decode_body",
        "curation.stages.fetch.client._status_error",
        "curation.stages.fetch.response_repair.parse_head",
        "curation.media.web.guard.Guard.check",
    ],
)
def test_an_exception_at_every_place_is_a_reason(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def odd(*_: Any, **__: Any) -> None:
        raise OddError("odd")

    web.pages["/a"] = answer(JPEG, Content_Encoding="odd")
    web.pages["/b"] = answer(status="503 Busy", Retry_After="odd")
    monkeypatch.setattr(place, odd)
    rows = fetched(tmp_path, [web.url("/a"), web.url("/b")], robots="SiteRules" in place)
    assert "error_OddError" in {row["reason"] for row in rows}
    assert all(row["status"] in ("ok", "failed") for row in rows)


def test_an_exception_while_a_name_is_resolved_is_a_reason(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = socket.getaddrinfo
    errors: dict[str, Exception] = {
        "unicode.example": UnicodeError("label too long"),
        "odd.example": OddError("odd"),
        "os.example": OSError(5, "input/output error"),
        "none.example": socket.gaierror(socket.EAI_NONAME, "no such name"),
        "again.example": socket.gaierror(socket.EAI_AGAIN, "try again"),
        "overflow.example": OverflowError("too large"),
    }

    def resolving(host: str, *rest: Any) -> Any:
        if host in errors:
            raise errors[host]
        return lookup(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    web.pages["/a"] = answer(JPEG)
    urls = [web.url("/a", host) for host in [*errors, HOSTS[0]]]
    rows = fetched(tmp_path, urls)
    reasons = {row["url"].split("/")[2].split(":")[0]: row["reason"] for row in rows}
    unforeseen_ones = {"odd.example": "error_OddError", "overflow.example": "error_OverflowError"}
    assert reasons == dict.fromkeys(errors, "dns_error") | unforeseen_ones | {HOSTS[0]: None}
    monkeypatch.setitem(errors, "odd.example", MemoryError())
    with pytest.raises(MemoryError):
        fetched(tmp_path / "again", urls)


def test_an_exception_while_a_url_is_normalised_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, reason in {"normalize": "error_OddError", "_is_blocked": "bad_row"}.items():
        with monkeypatch.context() as patch:
            from curation.media.web import urls

            patch.setattr(urls, name, raising(getattr(urls, name), of_bad, OddError("x")))
            blocked = tmp_path / "blocked.txt"
            blocked.write_text("a.example")
            listed = [f"http://{host}.example/" for host in ("good", "odd", "fine")]
            path = write(tmp_path / "l.parquet", [{"url": u, "caption": "c"} for u in listed])
            rows = pairs(tmp_path / name, source(path), blocked_domains=str(blocked))
        reasons = {row["url"]: row["reason"] for row in rows if row["url"]}
        assert [reasons.get(u) for u in listed if "odd" not in u] == [None, None]
        assert reason in {row["reason"] for row in rows}
        assert len(rows) == 3


@pytest.mark.parametrize("place", [*PLACES, (crawl._Crawl, "_check")], ids=lambda place: place[1])
@pytest.mark.parametrize("error", [MemoryError(), LeaseError("taken over"), StoreError("gone")])
def test_what_is_of_no_row_ends_the_task(
    web: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    error: Exception,
) -> None:
    monkeypatch.setattr(*place, raising(getattr(*place), lambda *_, **__: True, error))
    with pytest.raises(type(error)):
        fetched(tmp_path, hostile_of_bad(web))


def test_what_nothing_foresaw_is_requested_again(web: Web, tmp_path: Path) -> None:
    assert not is_permanent("error_OddError")
    assert not is_permanent("robots_unreadable")
    web.pages["/a"] = answer(JPEG)
    path = write(tmp_path / "l.parquet", [{"url": web.url("/a"), "caption": "c"}])
    store = tmp_path / "store"
    with pytest.MonkeyPatch.context() as patch:
        odd = raising(request_target, lambda _: True, OddError("x"))
        patch.setattr("curation.stages.fetch.client.request_target", odd)
        run(store, source(path), until="fetch", fetch=OPEN)
    assert table(store, "images").read()["reason"].to_pylist() == ["error_OddError"]
    more = write(
        tmp_path / "l.parquet", [{"url": web.url(p), "caption": "c"} for p in ("/a", "/b")]
    )
    run(store, source(more), until="fetch", fetch=OPEN)
    rows = table(store, "images").read().to_pylist()
    assert {row["url"][-2:]: row["reason"] for row in rows} == {"/a": None, "/b": "http_404"}


HEADS = {
    "retry-date": b"HTTP/1.1 503 B\r\nRetry-After: Mon, 01 Jan 2024 00:00:00 +99999999999999999\r\n",
    "retry-digits": b"HTTP/1.1 429 B\r\nRetry-After: " + b"9" * 5000 + b"\r\n",
    "retry-odd": b"HTTP/1.1 503 B\r\nRetry-After: \xd9\xa3\r\n",
    "location": b"HTTP/1.1 302 F\r\nLocation: http://[]@\r\n",
    "location-ip": b"HTTP/1.1 302 F\r\nLocation: http://[::1\r\n",
    "location-port": b"HTTP/1.1 302 F\r\nLocation: http://a:99999999999/\r\n",
    "location-bytes": b"HTTP/1.1 302 F\r\nLocation: //\xff\x00\xed\xa0\x80/\r\n",
    "location-long": b"HTTP/1.1 302 F\r\nLocation: /" + b"../a" * 15_000 + b"\r\n",
    "location-idna": b"HTTP/1.1 302 F\r\nLocation: //xn--" + b"9" * 60_000 + b"/\r\n",
    "cookies": b"HTTP/1.1 200 K\r\n" + b"Set-Cookie: a=b; Expires=x\r\n" * 4_000,
    "length-digits": b"HTTP/1.1 200 K\r\nContent-Length: " + b"9" * 5000 + b"\r\n",
    "length-negative": b"HTTP/1.1 200 K\r\nContent-Length: -5\r\n",
    "range": b"HTTP/1.1 206 K\r\nContent-Range: bytes 0-" + b"9" * 18 + b"/" + b"9" * 18 + b"\r\n",
    "coding": b"HTTP/1.1 200 K\r\nContent-Encoding: " + b"gzip," * 5000 + b"\r\n",
    "tags": b"HTTP/1.1 200 K\r\nX-Robots-Tag: " + b"a:b, " * 10_000 + b"\r\n",
    "date": b"HTTP/1.1 200 K\r\nDate: " + b"9" * 5000 + b"\r\nServer: \xff\xfe\r\n",
    "status": b"HTTP/1.1 " + b"9" * 5000 + b"\r\n",
    "status-999": b"HTTP/1.1 999 \xff\xff\r\n",
    "switch": b"HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\n",
}


@pytest.fixture
def any_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """All names below `example` are names of the server."""
    lookup = socket.getaddrinfo

    def resolving(host: str, *rest: Any) -> Any:
        return lookup(HOSTS[3] if host.endswith(".example") else host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolving)


@pytest.mark.usefixtures("any_host")
def test_no_head_of_a_response_ends_a_run(web: Web, tmp_path: Path) -> None:
    """Half of the rows are of good hosts."""
    urls = []
    for number, (name, head) in enumerate(HEADS.items()):
        web.pages[f"/{name}"] = head + b"Connection: close\r\n\r\n" + JPEG
        web.pages[f"/good/{number}"] = answer(JPEG)
        web.pages[f"/{name}/robots"] = b""
        urls.append(web.url(f"/{name}", f"h{number}.example"))
        urls.append(web.url(f"/good/{number}", HOSTS[number % 2]))
    rows = fetched(tmp_path, urls, patience_s=1)
    by_path = {row["url"].split("/", 3)[3]: row for row in rows}
    assert len(by_path) == len(urls)
    good = [row["status"] for path, row in by_path.items() if path.startswith("good")]
    assert good == ["ok"] * len(HEADS)
    assert all(r["status"] == "ok" or r["reason"] for r in rows)
    assert not [r["reason"] for r in rows if (r["reason"] or "").startswith("error_")]


ROBOTS = {
    "rate": b"User-agent: *\nRequest-rate: 1/" + b"9" * 400,
    "delay": b"User-agent: *\nCrawl-delay: 1e308",
    "delay-nan": b"User-agent: *\nCrawl-delay: nan",
    "binary": bytes(range(256)) * 100,
    "utf-16": "User-agent: *\nAllow: /".encode("utf-16"),
    "agents": b"".join(b"User-agent: a%d\n" % n for n in range(15_000)) + b"Allow: /a\n" * 15_000,
    "wildcards": b"User-agent: *\nDisallow: " + b"/*a" * 160_000 + b"$",
    "lines": b"\n" * 500_000,
    "location": b"HTTP/1.1 302 F\r\nLocation: http://[]@\r\nConnection: close\r\n\r\n",
}


@pytest.mark.usefixtures("any_host")
def test_no_robots_txt_ends_a_run(web: Web, tmp_path: Path) -> None:
    urls = []
    for number, (name, content) in enumerate(ROBOTS.items()):
        host = f"h{number}.example"
        page = content if content.startswith(b"HTTP") else answer(content)
        web.pages |= {f"{host}/robots.txt": page, f"{host}/{name}/{'a' * 4000}": answer(JPEG)}
        urls.append(web.url(f"/{name}/{'a' * 4000}", host))
        web.pages[f"/good/{number}"] = answer(JPEG)
        urls.append(web.url(f"/good/{number}", HOSTS[number % 2]))
    rows = fetched(tmp_path, urls, patience_s=1)
    reasons = {row["url"].split("/")[3]: row["reason"] for row in rows if "example" in row["url"]}
    assert [row["status"] for row in rows if "good" in row["url"]] == ["ok"] * len(ROBOTS)
    late = {"rate": "host_too_slow", "delay": "host_too_slow"}
    assert reasons == dict.fromkeys(ROBOTS) | late


def test_of_a_robots_txt_500_kib_are_read(web: Web, tmp_path: Path) -> None:
    start, end = b"User-agent: *\n", b"\nDisallow: /within\n"
    content = (start + b"#" * 2**19)[: 500 * 2**10 - len(end)] + end + b"Disallow: /beyond\n"
    web.pages |= {"/within": answer(JPEG), "/beyond": answer(JPEG)}
    web.pages[f"{HOSTS[0]}/robots.txt"] = answer(content)
    web.pages[f"{HOSTS[1]}/robots.txt"] = answer(gzip.compress(content), Content_Encoding="gzip")
    urls = [web.url(path, host) for host in HOSTS[:2] for path in ("/within", "/beyond")]
    reasons = [row["reason"] for row in fetched(tmp_path, urls)]
    assert reasons == ["robots_disallowed", None] * 2
