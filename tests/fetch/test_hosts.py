"""Limits per host are kept, and no host delays the others: the log of the server shows it."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from curation.errors import RecipeError
from curation.stages.fetch.scheduler import MAX_UNANSWERED
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import encoded, fetched, picture, reason

JPEG = encoded(picture())
SLACK = 0.1
"""Seconds by which a busy machine may note a request late."""


def pages(web: Web, count: int, hosts: list[str] | None = None) -> list[str]:
    """Put `count` pictures on each host; return their URLs, host after host."""
    urls = []
    for host in hosts or HOSTS[:1]:
        for n in range(count):
            web.pages[f"/{n}.jpg"] = answer(JPEG)
            # Each URL differs, so that none is a duplicate.
            urls.append(web.url(f"/{n}.jpg", host))
    return urls


def reasons(tmp_path: Path, urls: list[str], **fetch: Any) -> Counter[str | None]:
    return Counter(row["reason"] for row in fetched(tmp_path, urls, **fetch))


def slowly(page: bytes, seconds: float) -> Any:
    async def handler(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.write(page)

    return handler


def test_concurrent_requests_to_one_host_are_limited(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 12, HOSTS[:4])
    for path in list(web.pages):
        web.pages[path] = slowly(answer(JPEG), 0.03)
    bound = {"concurrency": 2, "per_second": None}
    assert reasons(tmp_path, urls, per_host=bound) == {None: 48}
    assert [web.max_concurrent(host) for host in HOSTS[:4]] == [2, 2, 2, 2]
    assert web.max_concurrent() > 4


def test_requests_per_second_are_limited(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 6, HOSTS[:2])
    bound = {"concurrency": 4, "per_second": 6.0}
    assert reasons(tmp_path, urls, per_host=bound) == {None: 12}
    for host in HOSTS[:2]:
        came = [v.started for v in web.visits(host, robots=True)]
        assert min(b - a for a, b in pairwise(came)) > 1 / 6 - SLACK
        assert came[-1] - came[0] > 6 / 6 - SLACK
    # Both hosts at the same time, not one after the other.
    first, second = (web.visits(host) for host in HOSTS[:2])
    assert first[0].started < second[-1].started and second[0].started < first[-1].started


def test_hosts_take_turns_even_if_the_list_is_sorted(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 10, HOSTS[:6])
    assert reasons(tmp_path, urls, concurrency=1) == {None: 60}
    asked = [v.host for v in web.visits()]
    for start in range(0, 60, 6):
        assert sorted(asked[start : start + 6]) == HOSTS[:6]


def test_a_busy_host_gets_no_request_for_its_retry_after(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 4, HOSTS[:2])

    async def busy(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        first = len(web.visits(HOSTS[0])) == 1
        writer.write(answer(status="429 Slow", Retry_After="1") if first else answer(JPEG))

    for n in range(4):
        web.pages[f"{HOSTS[0]}/{n}.jpg"] = busy
    one = {"concurrency": 1, "per_second": None}
    assert reasons(tmp_path, urls, retries=1, per_host=one) == {None: 8}
    first, second = web.visits(HOSTS[0])[:2]
    assert second.started - first.started > 1
    assert max(v.started for v in web.visits(HOSTS[1])) < second.started


def test_a_host_that_asks_for_a_longer_pause_than_patience_s_fails(
    web: Web, tmp_path: Path
) -> None:
    urls = pages(web, 5)
    web.pages |= {f"/{n}.jpg": answer(status="503 Busy", Retry_After="3600") for n in range(5)}
    one = {"concurrency": 1, "per_second": None}
    row_reasons = reasons(tmp_path, urls, retries=2, per_host=one)
    assert row_reasons == {"host_too_slow": 5}
    assert len(web.visits()) == 1


def test_all_rows_succeed_after_a_burst_of_503(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 20)

    async def bursting(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        refuse = 5 <= len(web.visits()) < 9
        writer.write(answer(status="503 Busy") if refuse else answer(JPEG))

    web.pages |= {f"/{n}.jpg": bursting for n in range(20)}
    assert reasons(tmp_path, urls, retries=1) == {None: 20}


def test_an_unreachable_host_gets_few_requests(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 30, HOSTS[:2])
    web.pages |= {f"{HOSTS[0]}/{n}.jpg": b"" for n in range(30)}
    few = {"concurrency": 2, "per_second": None}
    row_reasons = reasons(tmp_path, urls, per_host=few)
    assert row_reasons[None] == 30
    assert row_reasons["connection_error"] + row_reasons["host_unreachable"] == 30
    # The client library itself repeats a request once when a connection breaks.
    assert len(web.visits(HOSTS[0])) <= 2 * MAX_UNANSWERED


def test_transient_failures_are_retried_after_all_other_rows(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 6)

    async def once(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(status="502 Bad") if web.requests["/1.jpg"] == 1 else answer(JPEG))

    web.pages["/1.jpg"] = once
    assert reasons(tmp_path, urls, retries=1, concurrency=1) == {None: 6}
    assert [v.path for v in web.visits()][-1] == "/1.jpg"
    assert web.requests["/1.jpg"] == 2


def test_hosts_are_requested_only_with_a_contact(web: Web, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"fetch\.contact"):
        fetched(tmp_path / "a", [web.url("/a", "stranger.example")], contact=None)
    assert not web.log
    # A private address is not requested anyway.
    assert reason(tmp_path / "b", "http://10.1.2.3/a", contact=None) == "private_address"


def test_redirects_to_blocked_domains_fail(web: Web, tmp_path: Path) -> None:
    from tests.ingest.helpers import run, source, table, write

    web.pages["/"] = answer(status="302 Found", Location=web.url("/x", HOSTS[1]))
    web.pages["/x"] = answer(JPEG)
    blocked = tmp_path / "blocked.txt"
    blocked.write_text(HOSTS[1])
    path = write(tmp_path / "l.parquet", [{"url": web.url("/"), "caption": "c"}])
    from tests.fetch.helpers import OPEN

    ingest = {"blocked_domains": str(blocked)}
    run(tmp_path / "store", source(path), until="fetch", fetch=OPEN, ingest=ingest)
    (row,) = table(tmp_path / "store", "images").read().to_pylist()
    assert row["reason"] == "blocked_domain"
    assert not web.requests["/x"]


def test_an_unresponsive_host_does_not_delay_the_others(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 20, HOSTS[:3])

    async def hang(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        while sum(len(web.visits(host)) for host in HOSTS[1:3]) < 40:
            await asyncio.sleep(0.01)

    web.pages |= {f"{HOSTS[0]}/{n}.jpg": hang for n in range(20)}
    few = {"concurrency": 2, "per_second": None}
    row_reasons = reasons(tmp_path, urls, timeout_s=60, per_host=few, concurrency=4)
    # No request of the host had to time out before the last one to the others.
    assert row_reasons[None] == 40
    assert row_reasons["connection_error"] + row_reasons["host_unreachable"] == 20
    assert reason(tmp_path / "again", urls[-1]) is None


def test_a_host_without_a_response_is_given_up(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 20)
    web.pages |= {f"/{n}.jpg": slowly(b"", 60) for n in range(20)}
    few = {"concurrency": 2, "per_second": None}
    row_reasons = reasons(tmp_path, urls, timeout_s=0.3, per_host=few)
    assert row_reasons["timeout"] + row_reasons["host_unreachable"] == 20
    assert 3 <= row_reasons["timeout"] == len(web.visits()) <= 4
