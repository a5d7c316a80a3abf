"""Hosts that drip, hang or ask for much take from their own budget: good hosts keep their speed."""

from __future__ import annotations

import asyncio
import gc
import math
import socket
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.media.web.fetch_error import FetchError
from curation.media.web.lookups import Lookups
from curation.media.web.opt_outs import robots_cache
from curation.media.web.opt_outs.policy import opt_out_policy
from curation.media.web.opt_outs.robots_cache import SMALL_BYTES as SMALL_ROBOTS
from curation.media.web.opt_outs.robots_cache import RobotsCache
from curation.media.web.opt_outs.site import SiteRules, read_rules
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.stages.fetch import hosts as hosts_module
from curation.stages.fetch import robots_gate, turns
from curation.stages.fetch import scheduler as scheduler_module
from curation.stages.fetch.byte_budget import SMALL_BYTES, ByteBudget, Reservation
from curation.stages.fetch.hosts import Hosts, Standing
from curation.stages.fetch.params import FetchParams, FetchStep, PerHost
from curation.stages.fetch.request import FetchRequest, HttpRequest
from curation.stages.fetch.scheduler import HostScheduler
from curation.stages.fetch.seen_opt_outs import seen_opt_outs
from curation.stages.fetch.turns import Turns
from curation.store.store import Store
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import OPEN, encoded, fetched, picture, rules_of
from tests.ingest.helpers import source, table, write

JPEG = encoded(picture())


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """All names below `.example` lead to the server."""
    lookup = socket.getaddrinfo

    def resolving(host: str, *rest: Any) -> Any:
        return lookup(HOSTS[0] if host.endswith(".example") else host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolving)


PATIENCE_S = 60.0
"""Far longer than anything here takes on a busy machine."""


def test_slow_hosts_do_not_hold_good_rows(
    web: Web, tmp_path: Path, names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad hosts end once all good rows have come; so no good row may wait until one times out."""

    def all_good_came() -> bool:
        return sum(visit.ended < math.inf for visit in web.log if "good/" in visit.path) == len(
            good
        )

    async def drip(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(length=None))
        while not all_good_came():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def hang(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        while not all_good_came():
            await asyncio.sleep(0.05)

    async def fill_and_hang(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"x" * 900_000, length=950_000))
        await hang(head, writer)

    async def drip_heads(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        while not all_good_came():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    monkeypatch.setattr(turns, "PROMPT_S", PATIENCE_S)
    monkeypatch.setattr("curation.stages.fetch.client._MAX_BODY_BYTES_IN_MEMORY", 4_000_000)
    pages = (drip, hang, fill_and_hang, drip_heads)
    web.pages |= {f"/bad/{k}?{n}": pages[k] for k in range(4) for n in range(4)}
    web.pages |= {f"/good/{k}": answer(JPEG) for k in range(3)}
    bad = [web.url(f"/bad/{n % 4}?{k}", f"h{n}.bad.example") for n in range(20) for k in range(4)]
    good = [web.url(f"/good/{k}", f"h{n}.good.example") for n in range(30) for k in range(3)]
    # The bad rows alone are more than may run at once.
    limits = {"per_host": {"concurrency": 4, "per_second": None}, "concurrency": 64}
    urls = [*bad[:40], *good, *bad[40:]]
    rows = fetched(tmp_path, urls, timeout_s=PATIENCE_S, max_bytes=10**6, **limits)
    assert {row["reason"] for row in rows if "good" in row["url"]} == {None}
    # A body that holds memory for which others wait has timed out before, rightly.
    others = {r["reason"] for r in rows if "/bad/" in r["url"] and "/bad/2" not in r["url"]}
    assert not others & {None, "timeout"}


def test_slow_hosts_leave_room_for_prompt_ones() -> None:
    turn = Turns(16)
    hosts = Hosts(0.0)
    running: list[tuple[Any, HttpRequest]] = []

    def start(name: str, now: float) -> bool:
        turn.add(hosts[name], now)
        host = turn.pop(now)
        if host is None:
            hosts[name].turn = 0
            return False
        request = HttpRequest(None, "")
        turn.start(host, request, now)
        host.in_flight += 1
        running.append((host, request))
        return True

    def end(number: int, now: float) -> None:
        host, request = running.pop(number)
        host.in_flight -= 1
        host.answers += 1
        turn.end(host, request, now)

    def standing(name: str) -> Standing:
        return hosts[name].standing

    # New hosts leave a quarter.
    assert [start(f"new{n}", 0) for n in range(14)] == [True] * 12 + [False] * 2
    # One that has answered is requested all the same.
    end(0, 0.1)
    assert standing("new0") is Standing.PROMPT
    assert start("new0", 0.1)
    assert not start("new1", 0.1)
    # Its request is late: it counts with those that may take long.
    late = 0.2 + turns.PROMPT_S
    turn.pop(late)
    assert standing("new0") is Standing.SLOW
    assert not start("new0", late)
    for _ in range(12):
        end(0, late)
    assert standing("new5") is Standing.SLOW
    assert [start(f"new{n}", late) for n in range(1, 12)] == [True] * 8 + [False] * 3
    assert all(start(f"other{n}", late) for n in range(4))


def test_a_host_that_answers_gets_its_turn_at_once() -> None:
    turn, hosts = Turns(4), Hosts(0.0)
    slow = [hosts[f"slow{n}"] for n in range(3)]
    requests = [HttpRequest(None, "") for _ in slow]
    for host, request in zip(slow, requests, strict=True):
        turn.start(host, request, 0.0)
        host.in_flight = 1
    turn.add(slow[0], 0.0)
    assert slow[0].queued is Standing.SLOW
    assert turn.pop(0.0) is None
    slow[0].in_flight, slow[0].answers = 0, 1
    turn.end(slow[0], requests[0], 0.1)
    assert turn.pop(0.1) is slow[0]
    assert turn.pop(0.1) is None


def test_bodies_grow_as_bytes_arrive() -> None:
    async def main() -> None:
        budget = ByteBudget(100 * SMALL_BYTES)

        async def body(sizes: list[int]) -> None:
            async with asyncio.timeout(5) as deadline:
                reservation = Reservation(budget, deadline)
                for size in sizes:
                    await reservation.grow(size * SMALL_BYTES)
                    await asyncio.sleep(0)
                reservation.release()

        async with asyncio.timeout(5):
            # Together they need more than there is, and each holds a part.
            await asyncio.gather(*(body([30, 30, 30, 30]) for _ in range(12)))
            await asyncio.gather(*(body([1]) for _ in range(200)))
        assert budget._free == 100 * SMALL_BYTES
        assert budget._leader is None

    asyncio.run(main())


def test_a_crawl_that_waits_keeps_few_bytes_or_lets_no_other_start() -> None:
    async def use() -> None:
        budget = ByteBudget(1000)
        async with asyncio.timeout(30) as deadline:
            await budget.acquire(400, deadline)
            assert not budget.limit_to(300)
            # Nothing has changed: all of it can be reserved.
            await budget.acquire(600, deadline)
            budget.release(800)
            assert budget.limit_to(300) and budget.limit_to(300)
            await budget.acquire(100, deadline)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(budget.acquire(1, deadline), 0.05)
            budget.release(300)
            await budget.acquire(300, deadline)

    asyncio.run(use())


def test_idle_hosts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "MAX_IDLE_HOSTS", 10)
    hosts = Hosts(0.0)
    busy = hosts["busy.example"]
    busy.in_flight = 1
    for n in range(1_000):
        hosts.put_aside(hosts[f"h{n}.example"])
        hosts.put_aside(busy)
    assert len(hosts) == 11
    assert hosts["busy.example"] is busy


@pytest.mark.parametrize(("path", "held"), [("/", 12), ("/" + "a" * 2_000, 3)])
def test_rows_are_read_as_others_are_finished(
    monkeypatch: pytest.MonkeyPatch, path: str, held: int
) -> None:
    """A row with a long URL counts as several."""
    monkeypatch.setattr(scheduler_module, "MAX_ROWS_IN_MEMORY", 12)
    read: list[int] = []

    def rows() -> Iterator[FetchRequest]:
        for number in range(100):
            read.append(number)
            yield FetchRequest(number, f"http://{HOSTS[0]}{path}", None, None)

    async def main() -> None:
        params = FetchParams(robots=False, opt_out_signals=[], per_host=PerHost(per_second=None))
        scheduler = HostScheduler(rows(), params, Lookups(5.0), lambda: None)
        for finished in range(3):
            request = await scheduler.next()
            assert isinstance(request, HttpRequest) and request.row is not None
            assert len(read) == held + finished
            scheduler.succeeded(request, request.row)

    asyncio.run(main())


def big_robots(number: int, size: int) -> bytes:
    line = f"Disallow: /{number}/{{}}\n"
    return ("User-agent: *\n" + "".join(line.format(n) for n in range(size // 16))).encode()


def test_the_cache_of_robots_txt_is_bounded_in_bytes() -> None:
    cache = RobotsCache(max_bytes=2**18)
    cache.put("http://small.example", rules_of(b"User-agent: *\nDisallow: /a\n"))
    tracemalloc.start()
    for n in range(12):
        cache.put(f"http://h{n}.example", rules_of(big_robots(n, 60_000)))
        assert cache.size <= 2**18
    for n in range(100):
        cache.put(f"http://h{n}.x.example", rules_of(f"User-agent: *\nDisallow: /{n}\n".encode()))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2**20
    small = cache.get("http://small.example")
    assert small is not None
    assert small.opt_out("http://small.example/a") is not None
    assert cache.get("http://h11.example") is not None
    assert cache.get("http://h0.example") is None
    cache.put("http://h11.example", SiteRules(error=FetchError("http_500")))
    assert cache.get("http://h11.example") is not None


def test_rules_of_other_crawlers_need_no_memory() -> None:
    agents = b"".join(b"User-agent: a%d\n" % n for n in range(15_000))
    tracemalloc.start()
    rules = rules_of(agents + b"Disallow: /a\n" * 15_000)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 2**20
    assert held < 2**20
    assert rules.text == b""


def test_a_robots_txt_that_the_cache_drops_is_requested_again(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots_gate, "ROBOTS_CACHE", RobotsCache(max_bytes=2 * SMALL_ROBOTS))
    urls = []
    for n, host in enumerate(HOSTS):
        web.pages[f"{host}/robots.txt"] = answer(big_robots(n, 100_000) + b"Disallow: /no")
        for k in range(6):
            urls.append(web.url(f"/{k}", host))
            web.pages[f"/{k}"] = answer(JPEG)
        urls.append(web.url("/no", host))
    rows = fetched(tmp_path, urls)
    expected = {True: "robots_disallowed", False: None}
    assert all(row["reason"] == expected[row["url"].endswith("/no")] for row in rows)
    assert not web.requests["/no"]


def test_rules_that_take_long_cost_their_host_alone(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robots_gate, "MAX_RULES_S", 0.1)
    needle = "a" * 50 + "b" + "a" * 48
    rules = "User-agent: *\n" + "".join(f"Disallow: /*{needle}{n}\n" for n in range(3_000))
    web.pages[f"{HOSTS[1]}/robots.txt"] = answer(rules.encode())
    path = "/" + "a" * 6_000
    web.pages |= {f"{path}{n}": answer(JPEG) for n in range(20)} | {"/good": answer(JPEG)}
    urls = [web.url(f"{path}{n}", HOSTS[1]) for n in range(20)] + [web.url("/good")]
    started = time.process_time()
    rows = fetched(tmp_path, urls)
    assert rows[-1]["reason"] is None
    assert "robots_unreadable" in {row["reason"] for row in rows}
    assert time.process_time() - started < 5


def test_rules_that_take_long_withhold_the_stored_rows_of_their_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params, urls = FetchStep(), ["http://h.example/a", "http://h.example/no"]
    key = robots_gate.cache_key("http://h.example", opt_out_policy(params))
    cache = RobotsCache()
    cache.put(key, rules_of(b"User-agent: *\nDisallow: /no\n"))
    monkeypatch.setattr(robots_gate, "ROBOTS_CACHE", cache)
    rows = [FetchRequest(number, url, None, None) for number, url in enumerate(urls)]
    withheld = list(seen_opt_outs(rows, {}, params))
    assert [(each.request.url, each.reason) for each in withheld] == [
        (urls[1], "robots_disallowed")
    ]
    monkeypatch.setattr(robots_gate, "MAX_RULES_S", -1.0)
    withheld = list(seen_opt_outs(rows, {}, params))
    assert [each.reason for each in withheld] == ["robots_unreadable"] * 2


@pytest.mark.parametrize(("slots", "timeout_s"), [(1, 20.0), (None, 1.0)])
def test_slow_hosts_of_a_fragment_do_not_hold_the_next_fragment(
    web: Web, tmp_path: Path, slots: int | None, timeout_s: float
) -> None:
    """Hosts answer once two were asked, which are in different fragments."""
    arrived: set[str] = set()

    async def meet(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        arrived.add(head["host"])
        while len(arrived) < 2:
            await asyncio.sleep(0.01)
        writer.write(answer(JPEG))

    web.pages["/"] = meet
    urls = [{"url": web.url("/", host), "caption": "c"} for host in HOSTS]
    spec = {
        "sources": [source(write(tmp_path / "list.parquet", urls))],
        "ingest": {"rows_per_fragment": 1},
        "fetch": OPEN | {"timeout_s": timeout_s},
    }
    workers = InProcess()
    workers.slots = slots
    for step in plan(parse_recipe({"name": "t", **spec}), until="fetch"):
        run_step(step, Store(tmp_path / "store"), workers)
    images = table(tmp_path / "store", "images")
    assert len(images.fragments) >= 6
    statuses = {row["status"] for row in images.read().to_pylist()}
    # One fragment after the other, the first hosts answer too late.
    assert statuses == ({"ok"} if slots else {"ok", "failed"})


def test_a_large_robots_txt_is_parsed_a_few_times_for_any_number_of_rows(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that are not kept parsed decide all rows of their host while they are at hand."""
    monkeypatch.setattr(robots_cache, "MAX_PARSED_BYTES", 1)
    monkeypatch.setattr(robots_gate, "ROBOTS_CACHE", RobotsCache())
    parsed: list[int] = []

    def counted(text: bytes) -> SiteRules:
        parsed.append(len(text))
        return read_rules(text)

    monkeypatch.setattr(robots_cache, "read_rules", counted)
    urls = []
    for host in HOSTS:
        web.pages[f"{host}/robots.txt"] = answer(big_robots(0, 50_000) + b"Disallow: /no")
        urls += [web.url(f"/{n}", host) for n in range(40)] + [web.url("/no", host)]
    web.pages |= {f"/{n}": answer(JPEG) for n in range(40)}
    one = {"concurrency": 1, "per_second": None}
    rows = fetched(tmp_path, urls, per_host=one, concurrency=2)
    expected = {True: "robots_disallowed", False: None}
    assert all(row["reason"] == expected[row["url"].endswith("/no")] for row in rows)
    assert len(parsed) <= 2 * len(HOSTS)
