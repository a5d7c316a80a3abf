"""A web server that misbehaves on demand, on this machine's loopback."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

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
class Web:
    """Pages by path: the bytes of a response, or what writes one. `asked` counts requests."""

    pages: dict[str, bytes | Handler] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    heads: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    most_at_once: int = 0
    now: int = 0
    tls_port: int = 0
    loop: asyncio.AbstractEventLoop | None = None

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def certify(self, certificate: Path, key: Path) -> None:
        """Serve the same pages over TLS too, at `tls_port`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        assert self.loop
        serving = asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        server = asyncio.run_coroutine_threadsafe(serving, self.loop).result(10)
        self.tls_port = server.sockets[0].getsockname()[1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            first = await reader.readexactly(1)
            if not first.isalpha():
                writer.write(b"this is not TLS")
                return
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = lines[0].split(" ")[1]
            head = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            self.asked[path] += 1
            self.heads.append(head)
            page = self.pages.get(path, answer(status="404 Not Found"))
            if isinstance(page, bytes):
                writer.write(page)
            else:
                await page(head, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.now -= 1
            writer.close()


def start(web: Web, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
    async def main() -> None:
        server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
        web.port = server.sockets[0].getsockname()[1]
        ready.set()

    loop.create_task(main())
    loop.run_forever()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture
def web() -> Iterator[Web]:
    loop, ready = asyncio.new_event_loop(), threading.Event()
    found = Web(loop=loop)
    thread = threading.Thread(target=start, args=(found, loop, ready), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield found
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
