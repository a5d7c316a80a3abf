"""The server of `benchmarks.fetch`: pictures on 400 loopback addresses, some of which are lame."""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

HOSTS = [f"127.0.{n // 200}.{n % 200 + 1}" for n in range(400)]
SITE_FILES = {b"/robots.txt", b"/.well-known/tdmrep.json"}
"""Files that are requested before the pictures of a host; it has none."""
PICTURES = 64
SLOW_BYTES = 30
"""A slow host sends this many bytes, one per second. Without an end, img2dataset would not end."""


def picture(number: int, width: int) -> bytes:
    """Return a JPEG that compresses about as well as a photograph."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (width // 8, width // 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, width * 3 // 4), Image.Resampling.BICUBIC)
    noisy = np.asarray(image).astype(np.int16) + rng.normal(0, 6, (width * 3 // 4, width, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def serve(width: int, lame: list[str], port: Any, ready: Any) -> None:
    """Serve pictures on all hosts until the process is killed; `lame` hosts complete no response."""
    bodies = [picture(n, width) for n in range(PICTURES)]
    header = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    headers = [header % len(body) for body in bodies]
    requests: Counter[bytes] = Counter()
    not_found = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    lame_hosts = set(lame)

    def read_log() -> bytes:
        repeated = sum(n - 1 for path, n in requests.items() if path not in SITE_FILES)
        log = json.dumps(
            {"repeated": repeated, "pictures": len(requests.keys() - SITE_FILES)}
        ).encode()
        requests.clear()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(log) + log

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
                if path == b"/log":
                    writer.write(read_log())
                    continue
                requests[path] += 1
                if host in lame_hosts:
                    await _stall(host, writer, headers[0])
                elif path in SITE_FILES:
                    writer.write(not_found)
                else:
                    number = int(path.rsplit(b"/", 1)[1].split(b".")[0]) % PICTURES
                    writer.write(headers[number])
                    writer.write(bodies[number])
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(respond, HOSTS[0], 0, backlog=1024)
        server_port = server.sockets[0].getsockname()[1]
        for host in HOSTS[1:]:
            await asyncio.start_server(respond, host, server_port, backlog=1024)
        port.value = server_port
        ready.set()
        await asyncio.sleep(10**6)

    asyncio.run(main())


async def _stall(host: str, writer: asyncio.StreamWriter, header: bytes) -> None:
    """Send nothing, or send a body byte by byte, as the number of the host decides."""
    if int(host.rsplit(".", 1)[1]) % 2:
        await asyncio.sleep(3600)
    writer.write(header)
    for _ in range(SLOW_BYTES):
        writer.write(b"\xff")
        await writer.drain()
        await asyncio.sleep(1)
    writer.close()


@contextmanager
def running_server(width: int, lame: list[str]) -> Iterator[int]:
    """Run the server in a separate process; yield its port."""
    port, ready = multiprocessing.Value("i", 0), multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(width, lame, port, ready), daemon=True)
    server.start()
    ready.wait(60)
    yield port.value
    server.terminate()


def request_log(port: int) -> dict[str, int]:
    """Return the counts of requests since the last call."""
    with urllib.request.urlopen(f"http://{HOSTS[0]}:{port}/log", timeout=10) as response:
        log: dict[str, int] = json.load(response)
    return log
