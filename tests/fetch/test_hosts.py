"""No host is asked more than it should be, none holds up the others; the server's log is the judge."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from curation.errors import RecipeError
from curation.stages.fetch.hosts import SILENCES
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import encoded, fetched, picture, reason

JPEG = encoded(picture())
SLACK = 0.02


def pages(web: Web, count: int, hosts: list[str] | None = None) -> list[str]:
    """Put `count` pictures on each host; return their URLs, host after host."""
    urls = []
    for host in hosts or HOSTS[:1]:
        for n in range(count):
            web.pages[f"/{n}.jpg"] = answer(JPEG)
            # A query of its own, lest the list has the same URL twice.
            urls.append(web.url(f"/{n}.jpg", host))
    return urls


def reasons(tmp_path: Path, urls: list[str], **fetch: Any) -> Counter[str | None]:
    return Counter(row["reason"] for row in fetched(tmp_path, urls, **fetch))


def slowly(page: bytes, seconds: float) -> Any:
    async def handler(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.write(page)

    return handler


def test_requests_at_once_to_one_host_stay_within_its_bound(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 12, HOSTS[:4])
    for path in list(web.pages):
        web.pages[path] = slowly(answer(JPEG), 0.03)
    bound = {"concurrency": 2, "per_second": None}
    assert reasons(tmp_path, urls, per_host=bound) == {None: 48}
    assert [web.most_at_once(host) for host in HOSTS[:4]] == [2, 2, 2, 2]
    assert web.most_at_once() > 4


def test_requests_a_second_stay_within_the_bound(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 6, HOSTS[:2])
    started = time.monotonic()
    bound = {"concurrency": 4, "per_second": 20.0}
    assert reasons(tmp_path, urls, per_host=bound) == {None: 12}
    for host in HOSTS[:2]:
        came = [v.came for v in web.visits(host, robots=True)]
        assert min(b - a for a, b in pairwise(came)) > 1 / 20 - SLACK
    # Both at the same time, not one after the other.
    assert time.monotonic() - started < 2 * 6 / 20 + 1


def test_hosts_are_asked_by_turns_though_the_list_is_sorted(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 10, HOSTS[:6])
    assert reasons(tmp_path, urls, concurrency=1) == {None: 60}
    asked = [v.host for v in web.visits()]
    for start in range(0, 60, 6):
        assert sorted(asked[start : start + 6]) == HOSTS[:6]


def test_a_busy_host_is_left_alone_for_as_long_as_it_asks(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 4, HOSTS[:2])

    async def busy(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        first = len(web.visits(HOSTS[0])) == 1
        writer.write(answer(status="429 Slow", Retry_After="1") if first else answer(JPEG))

    for n in range(4):
        web.pages[f"{HOSTS[0]}/{n}.jpg"] = busy
    one = {"concurrency": 1, "per_second": None}
    assert reasons(tmp_path, urls, retries=1, per_host=one) == {None: 8}
    first, second = web.visits(HOSTS[0])[:2]
    assert second.came - first.over > 1 - SLACK
    assert max(v.came for v in web.visits(HOSTS[1])) < second.came


def test_a_host_that_asks_for_more_patience_than_there_is_is_given_up(
    web: Web, tmp_path: Path
) -> None:
    urls = pages(web, 5)
    web.pages |= {f"/{n}.jpg": answer(status="503 Busy", Retry_After="3600") for n in range(5)}
    one = {"concurrency": 1, "per_second": None}
    found = reasons(tmp_path, urls, retries=2, per_host=one)
    assert found == {"host_too_slow": 5}
    assert len(web.visits()) == 1


def test_bursts_of_refusals_end_well(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 20)

    async def bursting(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        refuse = 5 <= len(web.visits()) < 9
        writer.write(answer(status="503 Busy") if refuse else answer(JPEG))

    web.pages |= {f"/{n}.jpg": bursting for n in range(20)}
    assert reasons(tmp_path, urls, retries=1) == {None: 20}


def test_a_dead_host_is_not_asked_again_and_again(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 30, HOSTS[:2])
    web.pages |= {f"{HOSTS[0]}/{n}.jpg": b"" for n in range(30)}
    few = {"concurrency": 2, "per_second": None}
    found = reasons(tmp_path, urls, per_host=few)
    assert found[None] == 30
    assert found["connection_error"] + found["host_unreachable"] == 30
    # The client library asks once more itself when a connection breaks.
    assert len(web.visits(HOSTS[0])) <= 2 * SILENCES


def test_what_failed_in_passing_is_asked_again_after_all_others(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 6)

    async def once(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(status="502 Bad") if web.asked["/1.jpg"] == 1 else answer(JPEG))

    web.pages["/1.jpg"] = once
    assert reasons(tmp_path, urls, retries=1, concurrency=1) == {None: 6}
    assert [v.path for v in web.visits()][-1] == "/1.jpg"
    assert web.asked["/1.jpg"] == 2


def test_strangers_can_see_who_asks(web: Web, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"fetch\.contact"):
        fetched(tmp_path / "a", [web.url("/a", "stranger.example")], contact=None)
    assert not web.log
    # Nobody is asked at an address that is refused anyway.
    assert reason(tmp_path / "b", "http://10.1.2.3/a", contact=None) == "private_address"


def test_what_the_recipe_blocks_is_no_place_to_be_sent_to(web: Web, tmp_path: Path) -> None:
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
    assert not web.asked["/x"]


def test_one_silent_host_does_not_hold_up_the_others(web: Web, tmp_path: Path) -> None:
    urls = pages(web, 20, HOSTS[:3])
    web.pages |= {f"{HOSTS[0]}/{n}.jpg": slowly(b"", 30) for n in range(20)}
    few = {"concurrency": 2, "per_second": None}
    started = time.monotonic()
    found = reasons(tmp_path, urls, timeout_s=0.5, per_host=few, concurrency=4)
    assert found[None] == 40
    assert found["timeout"] + found["host_unreachable"] == 20
    assert time.monotonic() - started < 4
    assert reason(tmp_path / "again", urls[-1]) is None
