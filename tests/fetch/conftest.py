"""A web server that misbehaves on demand, on this machine's loopback."""

from __future__ import annotations

import asyncio
import math
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from curation.media.web.opt_outs.robots_cache import RobotsCache

SITE_FILES = ("/robots.txt", "/.well-known/tdmrep.json")
"""Files that are requested before the pages of a host."""
HOSTS = [f"127.0.0.{n}" for n in range(1, 9)]
Handler = Callable[[dict[str, str], asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes = b"", status: str = "200 OK", length: int | None = -1, **headers: str
) -> bytes:
    """The bytes of an HTTP response; `length` None leaves the header out."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Visit:
    """One request: its host and path, and when it started and ended (monotonic)."""

    host: str
    path: str
    started: float
    ended: float = math.inf


@dataclass
class Web:
    """Pages by path, or by host and path: the bytes of a response, or a function that writes one.

    `requests` counts requests by path, without SITE_FILES; `log` has all requests in order.
    """

    pages: dict[str, bytes | Handler] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    log: list[Visit] = field(default_factory=list)
    port: int = 0
    tls_port: int = 0
    loop: asyncio.AbstractEventLoop | None = None

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def visits(self, host: str | None = None, robots: bool = False) -> list[Visit]:
        """The requests to a host, or to all, without those for SITE_FILES."""
        return [
            v for v in self.log if host in (None, v.host) and (robots or v.path not in SITE_FILES)
        ]

    def max_concurrent(self, host: str | None = None) -> int:
        """The largest number of requests to a host, or to all hosts, at the same time."""
        visits = self.visits(host, robots=True)
        concurrent = (sum(v.started <= w.started < v.ended for v in visits) for w in visits)
        return max(concurrent, default=0)

    def certify(self, certificate: Path, key: Path) -> None:
        """Serve the same pages over TLS too, at `tls_port`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        assert self.loop
        serving = asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        server = asyncio.run_coroutine_threadsafe(serving, self.loop).result(10)
        self.tls_port = server.sockets[0].getsockname()[1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = None
        try:
            first = await reader.readexactly(1)
            if not first.isalpha():
                writer.write(b"this is not TLS")
                return
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = lines[0].split(" ")[1]
            head = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            host = head.get("host", "").rsplit(":", 1)[0]
            visit = Visit(host, path, time.monotonic())
            self.log.append(visit)
            if path not in SITE_FILES:
                self.requests[path] += 1
                self.headers.append(head)
            missing = answer(status="404 Not Found")
            page = self.pages.get(host + path, self.pages.get(path, missing))
            if isinstance(page, bytes):
                writer.write(page)
            else:
                await page(head, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if visit is not None:
                visit.ended = time.monotonic()
            writer.close()


def start(web: Web, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
    async def main() -> None:
        server = await asyncio.start_server(web.serve, HOSTS[0], 0)
        web.port = server.sockets[0].getsockname()[1]
        for host in HOSTS[1:]:
            await asyncio.start_server(web.serve, host, web.port)
        ready.set()

    loop.create_task(main())
    loop.run_forever()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture(autouse=True)
def empty_robots_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the robots.txt of the servers of other tests."""
    monkeypatch.setattr("curation.stages.fetch.robots_gate.ROBOTS_CACHE", RobotsCache())


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try sources again at once, and read at most 1 MiB without ranges."""
    monkeypatch.setattr("curation.media.files.source_client._FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("curation.media.files.web_file.MAX_WITHOUT_RANGES", 2**20)


@pytest.fixture
def web() -> Iterator[Web]:
    loop, ready = asyncio.new_event_loop(), threading.Event()
    server = Web(loop=loop)
    thread = threading.Thread(target=start, args=(server, loop, ready), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield server
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
