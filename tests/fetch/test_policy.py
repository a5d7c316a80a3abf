"""What URLs of pools may request, and what of addresses tables hold."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import OPEN, encoded, fetched, picture, reason

JPEG = encoded(picture())


def redirect(to: str, **headers: Any) -> bytes:
    return answer(status="302 Found", Location=to, **headers)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Answers the look-up of a name with an address."""
    lookup = socket.getaddrinfo
    answers: dict[str, str] = {}

    def answered(host: str, port: Any = None, *rest: Any, **options: Any) -> Any:
        if host in answers:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[host], port or 0))]
        return lookup(host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answered)
    return answers.__setitem__


@pytest.mark.parametrize(
    ("url", "fetch", "expected"),
    [
        ("http://8.8.8.8:22/", {}, "blocked_port"),
        ("http://8.8.8.8:6379/", {"ports": [8080]}, "blocked_port"),
        ("https://[2606:4700::1]:25/", {}, "blocked_port"),
        ("http://public.example:9200/", {}, "blocked_port"),
        ("http://nowhere.invalid:9200/", {"allow_hosts": []}, "dns_error"),
        ("http://nowhere.invalid/", {}, "dns_error"),
        ("http://nowhere.invalid:9200/", {"ports": [9200]}, "dns_error"),
        ("http://public.example:9/", {"allow_hosts": ["public.example:9200"]}, "blocked_port"),
        ("http://public.example:90/", {"allow_hosts": ["*.public.example:90"]}, "blocked_port"),
        ("http://private.example:9200/", {}, "private_address"),
        ("http://public.example:9200/", {"allow_hosts": ["10.0.0.0/8:9200"]}, "blocked_port"),
        ("http://private.example:9200/", {"ports": [9200]}, "private_address"),
        ("http://192.0.0.192/", {}, "private_address"),
        ("http://[3fff::1]/", {}, "private_address"),
        ("http://127.0.0.1:{port}/fine", {"allow_hosts": ["127.0.0.1:9"]}, "blocked_port"),
        ("http://127.0.0.1:{port}/fine", {"allow_hosts": ["127.0.0.1:{port}"]}, None),
        ("http://127.0.0.1:{port}/fine", {"allow_hosts": ["127.0.0.0/8:{port}"]}, None),
        ("http://127.0.0.1:{port}/fine", {"allow_hosts": ["127.0.0.1"]}, None),
        ("http://127.0.0.1:{port}/to-ssh", {}, "blocked_port"),
        ("http://127.0.0.1:{port}/to-public", {"contact": None}, "no_contact"),
        ("http://127.0.0.1:{port}/to-private", {"contact": None}, "private_address"),
        ("http://127.0.0.1:{port}/to-user", {}, "bad_redirect"),
        ("http://127.0.0.1:{port}/to-file", {}, "bad_redirect"),
        ("http://127.0.0.1:{port}/to-data", {}, "bad_redirect"),
        ("http://127.0.0.1:{port}/to-nothing", {}, "bad_redirect"),
    ],
)
def test_a_url_that_may_not_be_requested_has_its_reason(
    web: Web,
    tmp_path: Path,
    lookups: Callable[[str, str], None],
    url: str,
    fetch: dict[str, Any],
    expected: str | None,
) -> None:
    lookups("public.example", "8.8.4.4")
    lookups("private.example", "10.1.2.3")
    web.pages = {
        "/fine": answer(JPEG),
        "/to-ssh": redirect("http://8.8.8.8:22/"),
        "/to-public": redirect("http://public.example/"),
        "/to-private": redirect("http://10.0.0.1/"),
        "/to-user": redirect("http://u:S3CR3T@127.0.0.1/"),
        "/to-file": redirect("file:///etc/passwd"),
        "/to-data": redirect("data:image/png;base64,AA"),
        "/to-nothing": redirect(""),
    }
    allowed = [
        entry.format(port=web.port) for entry in fetch.get("allow_hosts", OPEN["allow_hosts"])
    ]
    assert (
        reason(tmp_path, url.format(port=web.port), **fetch | {"allow_hosts": allowed}) == expected
    )


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_redirects_are_followed_as_far_as_the_recipe_says(
    web: Web, tmp_path: Path, limit: int
) -> None:
    web.pages = {f"/{n}": redirect(f"/{n + 1}") for n in range(limit + 1)}
    web.pages[f"/{limit + 1}"] = answer(JPEG)
    rows = fetched(tmp_path, [web.url("/0"), web.url("/1")], max_redirects=limit)
    assert [r["reason"] for r in rows] == ["too_many_redirects", None]
    assert sum(web.requests.values()) == 2 * (limit + 1)


def test_a_contact_that_is_added_gives_the_rows_that_needed_it(
    web: Web, tmp_path: Path, lookups: Callable[[str, str], None]
) -> None:
    lookups("public.example", "10.0.0.1")
    web.pages = {"/a": redirect("http://public.example/"), "/b": answer(JPEG)}
    reasons = [
        [r["reason"] for r in fetched(tmp_path, [web.url("/a"), web.url("/b")], contact=contact)]
        for contact in (None, "tests@curation.example")
    ]
    assert reasons == [["no_contact", None], ["private_address", None]]
    assert web.requests["/b"] == 1


def test_a_port_that_is_added_or_removed_is_asked_or_refused_again(
    web: Web, tmp_path: Path
) -> None:
    web.pages = {"/a": answer(JPEG)}
    url, reasons = web.url("/a"), []
    for allowed in (["127.0.0.1:9"], ["127.0.0.1:9", f"127.0.0.1:{web.port}"], ["127.0.0.1:9"]):
        (row,) = fetched(tmp_path, [url], allow_hosts=allowed)
        reasons.append(row["reason"])
    assert reasons == ["blocked_port", None, "blocked_port"]


def test_secrets_of_redirects_are_in_no_table_and_those_of_the_list_in_its_columns(
    web: Web, tmp_path: Path
) -> None:
    listed, moved = web.url("/a?sig=L1STED"), web.url("/b?w=1", "127.0.0.2")
    web.pages = {
        "/a?sig=L1STED": answer(JPEG),
        "/b?w=1": redirect("/c?w=1&X-Amz-Signature=S3CR3T&u=http%3A%2F%2Fh%3Ftoken%3DS3CR3T"),
        "/c?w=1&X-Amz-Signature=S3CR3T&u=http%3A%2F%2Fh%3Ftoken%3DS3CR3T": answer(JPEG),
    }
    for _ in range(2):
        rows = {r["url"]: r for r in fetched(tmp_path, [listed, moved])}
    assert rows[listed]["final_url"] == listed
    assert "S3CR3T" not in str(rows)
    final = rows[moved]["final_url"]
    assert final == web.url(
        "/c?w=1&X-Amz-Signature=***&u=http%3A%2F%2Fh%3Ftoken%3D***", "127.0.0.2"
    )
    assert rows[moved]["status"] == "ok" and sum(web.requests.values()) == 3
    stored = [p for p in (tmp_path / "store").rglob("*") if p.is_file()]
    assert stored and not [p for p in stored if b"S3CR3T" in p.read_bytes()]
    # A row that is added leaves the others as they are, redirected or not.
    assert {r["status"] for r in fetched(tmp_path, [listed, moved, web.url("/none")])} == {
        "ok",
        "failed",
    }
    assert sum(web.requests.values()) == 4


def test_no_request_reaches_a_server_that_only_a_redirect_of_robots_names(
    web: Web, tmp_path: Path
) -> None:
    web.pages = {"/robots.txt": redirect("http://10.9.8.7/robots.txt"), "/a": answer(JPEG)}
    assert reason(tmp_path, web.url("/a")) == "robots_unreachable"
    assert not web.requests
