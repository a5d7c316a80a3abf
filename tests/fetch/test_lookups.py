"""Name servers that do not answer delay only their names."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curation.media.web import lookups
from curation.media.web.domains import domain_of
from curation.media.web.lookups import Lookups, UnansweredDomainError, lookup_error
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import encoded, fetched, picture

JPEG = encoded(picture())
BAD, GOOD = 190, 60


class NameServers:
    """Names below `.dead.example` and `.deadN.example` get no answer; all others lead to loopback."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def __call__(self, host: str, port: Any, *_: Any) -> list[Any]:
        domain = domain_of(host)
        with self.lock:
            self.asked[host] += 1
            self.running[domain] += 1
            self.most[domain] = max(self.most[domain], self.running[domain])
        try:
            if ".dead" in host:
                self.stopped.wait(60)
                raise socket.gaierror(socket.EAI_AGAIN, "no answer")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOSTS[0], port))]
        finally:
            with self.lock:
                self.running[domain] -= 1


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers)
    yield servers
    servers.stopped.set()


@pytest.mark.parametrize(
    "name", ["h{}.dead.example", "h.dead{}.example"], ids=["one domain", "many domains"]
)
def test_hosts_without_a_name_server_do_not_delay_others(
    web: Web, tmp_path: Path, servers: NameServers, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LATE_S", 0.2)

    async def last_ends_the_wait(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(JPEG))
        if web.requests["/a"] == GOOD:
            servers.stopped.set()

    web.pages["/a"] = last_ends_the_wait
    bad = [web.url("/a", name.format(n)) for n in range(BAD)]
    good = [web.url("/a", f"h{n}.good{n % 7}.example") for n in range(GOOD)]
    urls = [*bad[:90], *good, *bad[90:]]
    rows = fetched(tmp_path, urls, timeout_s=60, concurrency=32)
    reasons = Counter(row["reason"] for row in rows)
    # No look-up had to time out before the last of the good rows.
    assert reasons[None] == GOOD
    assert reasons["dns_error"] + reasons["host_unreachable"] == BAD
    assert max(servers.most.values()) <= lookups.PER_DOMAIN
    assert max(servers.asked.values()) == 1


def test_a_domain_gets_its_second_try_with_the_retries(
    web: Web, tmp_path: Path, servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.pages["/a"] = answer(JPEG)
    urls = [web.url("/a", f"h{n}.dead.example") for n in range(9)]

    forgive = Lookups.forgive

    def ends_the_wait(names: Lookups) -> None:
        servers.stopped.set()
        forgive(names)

    # Called when the retries begin, while threads still wait for the first answers.
    monkeypatch.setattr(Lookups, "forgive", ends_the_wait)
    rows = fetched(tmp_path, urls, timeout_s=0.5, retries=1)
    # They are asked again; now the answer is that the name server has none.
    assert {row["reason"] for row in rows} <= {"dns_error", "timeout", "host_unreachable"}
    assert max(servers.asked.values()) == 2


def on_loop(body: Callable[[Lookups], Any], deadline_s: float = 5) -> Any:
    async def main() -> Any:
        return await body(Lookups(deadline_s))

    return asyncio.run(main())


def test_names_of_a_domain_that_does_not_answer_are_given_up(servers: NameServers) -> None:
    async def body(names: Lookups) -> None:
        for number in range(lookups.MAX_MISSED):
            with pytest.raises(TimeoutError):
                await names.addresses(f"h{number}.dead.example")
        with pytest.raises(UnansweredDomainError):
            await names.addresses("other.dead.example")
        names._deadline_s = 60
        assert await names.addresses("a.good.example")
        assert "other.dead.example" not in servers.asked

    on_loop(body, deadline_s=0.02)


def test_look_ups_without_an_answer_take_few_threads(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_THREADS", 3)
    monkeypatch.setattr(lookups, "LATE_S", 0.001)

    async def body(names: Lookups) -> None:
        answers = [names.find(f"h.dead{number}.example") for number in range(9)]
        while len(servers.asked) < 3 or sum(answer.done() for answer in answers) < 3:
            await asyncio.sleep(0.01)
        assert len(servers.asked) == sum(answer.done() for answer in answers) == 3
        servers.stopped.set()
        await asyncio.wait(answers)
        assert len(servers.asked) == 9

    on_loop(body, deadline_s=0.01)


def test_answers_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def many(host: str, port: Any, *_: Any) -> list[Any]:
        asked.append(host)
        if host.startswith("none"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(2, 1, 6, "", (f"10.0.{n // 250}.{n % 250}", port)) for n in range(5_000)]

    monkeypatch.setattr(socket, "getaddrinfo", many)
    monkeypatch.setattr(lookups, "MAX_CACHED", 5)

    async def body(names: Lookups) -> None:
        for _ in range(2):
            assert len(await names.addresses("a.example")) == lookups.MAX_ADDRESSES
            with pytest.raises(socket.gaierror) as caught:
                await names.addresses("none.example")
            assert lookup_error(caught.value).whole_host
        assert asked == ["a.example", "none.example"]
        for n in range(50):
            await names.addresses(f"x.h{n}.example")
        assert len(names._answers) == len(names._domains) == 5
        assert not names._pending
        assert names._fresh == names._running == 0

    on_loop(body)


def test_an_answer_is_kept_for_a_time(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [1_000.0, 1_299.0, 1_301.0]
    monkeypatch.setattr(lookups, "time", SimpleNamespace(monotonic=lambda: seconds[0]))

    async def body(names: Lookups) -> None:
        for asked in (1, 1, 2):
            await names.addresses("a.example")
            assert servers.asked["a.example"] == asked
            del seconds[:1]

    on_loop(body)


def test_a_machine_that_cannot_ask_says_nothing_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver of the system raises such an error if too many files are open."""
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def answer(host: str, *_: Any) -> list[Any]:
        if failures:
            raise failures.pop()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOSTS[0], 0))]

    async def ask() -> None:
        resolver = Lookups(1.0)
        with pytest.raises(OSError, match="Too many") as caught:
            await resolver.addresses("h.example")
        error = lookup_error(caught.value)
        assert (error.reason, error.transient, error.whole_host) == ("dns_error", True, False)
        assert await resolver.addresses("h.example")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    asyncio.run(ask())


def test_the_same_name_is_asked_for_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def slow(host: str, port: Any, *_: Any) -> list[Any]:
        asked.append(host)
        time.sleep(0.05)
        return [(2, 1, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def body(names: Lookups) -> None:
        answers = await asyncio.gather(*(names.addresses("a.example") for _ in range(20)))
        assert len(set(answers)) == 1

    on_loop(body)
    assert asked == ["a.example"]


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("example.com", "example.com"),
        ("localhost", "localhost"),
        ("a.b.co.uk", "b.co.uk"),
        ("x.a.b.co.uk", "b.co.uk"),
        ("t.co", "t.co"),
        ("pbs.t.co", "t.co"),
        ("a.com.br", "a.com.br"),
        ("www.a.com.br", "a.com.br"),
        ("www.a.de", "a.de"),
    ],
)
def test_hosts_of_one_registered_domain_share_it(host: str, domain: str) -> None:
    assert domain_of(host) == domain
