"""A web of strangers on loopback, in which most hosts do one thing wrong.

One server listens on 127.0.0.0/8. The second number of an address is the kind of its host (KINDS): all
hosts of a kind answer alike. A host of the kind `dead_name` is a name whose name server never answers;
`resolve_strangers` stands for name servers in a process that fetches.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import brotli
import numpy as np
from PIL import Image

LISTEN = "0.0.0.0"
PAUSE_S = 0.2
LONG_S = 3600.0
MANY = 100_000
UNANSWERED_S = 20.0
PICTURES = 32
TILE_SIDE = 46_000
NO_ROBOTS = b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n"
Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]


def picture(number: int) -> bytes:
    """Return a JPEG of about 5 kB."""
    pixels = np.random.default_rng(number).integers(0, 255, (12, 16, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def tiff(tags: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """Return a TIFF with tags (number, type, count, value), and bytes after them."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tail


def poison() -> list[bytes]:
    """Return small pictures that want much memory or time of a decoder."""
    grey = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    tile = [(259, 3, 1, 8), (322, 4, 1, TILE_SIDE), (323, 4, 1, TILE_SIDE)]
    one_tile = [*grey, *tile, (324, 4, 1, 8), (325, 4, 1, 64)]
    strip = [(259, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 16), (279, 4, 1, 256)]
    same = [(40_000 + n, 7, 2**19, 8) for n in range(2_000)]
    out = io.BytesIO()
    Image.new("L", (16, 16)).save(out, "PNG")
    png, text = out.getvalue(), chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8), 9))
    tables = b"\xff\xdb\x00\x43\x00" + b"\x01" * 64
    return [
        tiff(one_tile),
        tiff([*grey, *strip, *same], bytes(2**19)),
        png[:33] + text * 2 + png[33:],
        JPEGS[0][:2] + tables * 10_000 + JPEGS[0][2:],
    ]


def whole(body: bytes = b"", *fields: bytes, status: bytes = b"200 K") -> bytes:
    """Return a response with a length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([*lines, b"", b""]) + body


JPEGS = [picture(number) for number in range(PICTURES)]
BOMB = b"\0" * 40_000_000
LOCATIONS = [b"http://[]@", b"http://[::1", b"http://a:99999999999/", b"//\xff\x00/", b"?" * 60_000]
LOCATIONS += [
    b"//xn--" + b"9" * 60_000 + b"/",
    b"/" + b"../a" * 15_000,
    b"gopher://x/",
    b"//a.b\\@c/",
]
PAUSES = [b"9" * 5000, b"Mon, 01 Jan 2024 00:00:00 +99999999999999999", b"\xd9\xa3", b"-1", b"1e9"]
CODINGS = {
    b"gzip": gzip.compress(BOMB),
    b"br": brotli.compress(BOMB, quality=1),
    b"gzip, gzip": gzip.compress(gzip.compress(BOMB)),
    b"deflate, br, gzip": b"\x1f\x8b\x08" + bytes(range(256)),
}
AGENTS = b"".join(b"User-agent: a%d\n" % n for n in range(15_000)) + b"Disallow: /a\n" * 15_000
NEEDLE = b"a" * 50 + b"b" + b"a" * 48
ROBOTS = {
    "robots_rate": b"User-agent: *\nRequest-rate: 1/" + b"9" * 400,
    "robots_delay": b"User-agent: *\nCrawl-delay: 1e308",
    "robots_agents": AGENTS,
    "robots_wildcards": b"User-agent: *\n" + b"Disallow: /*%s\n" % NEEDLE * 4_000,
    "robots_stars": b"User-agent: *\nDisallow: " + b"/*a" * 160_000 + b"$",
    "robots_large": b"User-agent: *\n" + b"".join(b"Disallow: /%d\n" % n for n in range(30_000)),
    "robots_binary": bytes(range(256)) * 2_000,
    "robots_disallow": b"User-agent: *\nDisallow: /",
}


def sending(*responses: bytes) -> Answer:
    """Return an answer that sends one of some responses, by the number of the row."""

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(responses[number % len(responses)])

    return answer


def dripping(head: bytes, part: bytes, pause_s: float = PAUSE_S, count: int = MANY) -> Answer:
    """Return an answer that sends a part again and again."""

    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(count):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        writer.close()

    return answer


async def hang_up(_: int, writer: asyncio.StreamWriter) -> None:
    """End the connection."""
    writer.close()


def redirecting(*locations: bytes) -> Answer:
    """Return an answer that redirects."""
    return sending(*(whole(b"", b"Location: " + at, status=b"302 F") for at in locations))


KINDS: dict[str, Answer] = {
    "good": sending(*(whole(jpeg) for jpeg in JPEGS)),
    "drip_body": dripping(b"HTTP/1.1 200 K\r\n\r\n", b"x"),
    "drip_head": dripping(b"HTTP/1.1 200 K\r\n", b"X-A: b\r\n"),
    "drip_interim": dripping(b"", b"HTTP/1.1 100 C\r\n\r\n"),
    "fill_and_hang": dripping(whole(b"x" * 3_000_000)[:-1], b"", LONG_S),
    "hang": dripping(b"", b"", LONG_S),
    "hang_up": hang_up,
    "endless": dripping(b"HTTP/1.1 200 K\r\n\r\n", b"x" * 65_536, 0.0),
    "headers": dripping(b"HTTP/1.1 200 K\r\n", b"X: %s\r\n" % (b"y" * 1000), 0.0),
    "cookies": sending(whole(JPEGS[0], *[b"Set-Cookie: a=b; Expires=x"] * 4_000)),
    "bombs": sending(*(whole(b, b"Content-Encoding: " + c) for c, b in CODINGS.items())),
    "no_http": sending(b"\0\xff" * 500, b"220 ftp\r\n", b"HTTP/1.1 " + b"9" * 9_000 + b"\r\n\r\n"),
    "lengths": sending(
        whole(JPEGS[0], b"Content-Length: 1"),
        whole(JPEGS[0]).replace(b"Content-Length: ", b"Content-Length: -"),
        whole(JPEGS[0]).replace(b"Content-Length: ", b"Content-Length: " + b"9" * 5_000),
    ),
    "locations": redirecting(*LOCATIONS),
    "loop": redirecting(b"/loop/1", b"/loop/2"),
    "inwards": redirecting(b"http://169.254.169.254/latest", b"http://10.0.0.1/", b"http://[::1]/"),
    "pauses": sending(*(whole(b"", b"Retry-After: " + p, status=b"503 B") for p in PAUSES)),
    "errors": sending(whole(status=b"500 O"), whole(status=b"404 N"), whole(status=b"999 \xff")),
    "no_picture": sending(whole(b"<html>"), whole(JPEGS[0][:99]), whole(), whole(bytes(9_000))),
    "poison": sending(*map(whole, poison())),
    "opted_out": sending(
        whole(JPEGS[0], b"X-Robots-Tag: unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT, noai"),
        whole(JPEGS[0], b"X-Robots-Tag: none"),
        whole(b"", b"TDM-Reservation: 1", b"Location: /", status=b"302 F"),
    ),
    **dict.fromkeys(ROBOTS, sending(*(whole(jpeg) for jpeg in JPEGS))),
    "robots_drip": sending(whole(JPEGS[0])),
    "robots_endless": sending(whole(JPEGS[0])),
    "dead_name": hang_up,
}
NAMES = list(KINDS)
BAD_NAMES = NAMES[1:]
ROBOTS_ANSWERS: dict[str, Answer] = {
    **{name: sending(whole(content)) for name, content in ROBOTS.items()},
    "robots_drip": KINDS["drip_body"],
    "robots_endless": dripping(b"HTTP/1.1 200 K\r\n\r\n", b"Disallow: /*a\n" * 4_000, 0.0),
}


def host_of_kind(kind: str, number: int) -> str:
    """Return the host with a number of a kind."""
    if kind == "dead_name":
        return f"h{number}.dead{number % 3}.example"
    return f"127.{NAMES.index(kind) + 1}.{number // 250}.{number % 250 + 1}"


def resolve_strangers() -> None:
    """Answer no look-up of a name below `.example` in this process, as a dead name server does."""
    lookup = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **options: Any) -> Any:
        if str(host).endswith(".example"):
            time.sleep(UNANSWERED_S)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return lookup(host, *rest, **options)

    socket.getaddrinfo = resolve


@dataclass
class GoodRequests:
    """The pictures that good hosts sent: their number, and when the first and the last was sent."""

    count: int = 0
    first: float = 0.0
    last: float = 0.0

    def note(self) -> None:
        """Count a picture."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.count += 1


class HostileServer:
    """Answers as the kind of the host does; `/log` of any host returns and resets the counts.

    Args:
        latency_s: seconds from the request for a good picture to its response.
    """

    def __init__(self, latency_s: float = 0.0) -> None:
        self._good, self._latency_s = GoodRequests(), latency_s

    async def start(self) -> int:
        """Listen; return the port."""
        server = await asyncio.start_server(self._serve, LISTEN, 0, backlog=4096, limit=2**20)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = NAMES[int(writer.get_extra_info("sockname")[0].split(".")[1]) - 1]
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode("latin-1")
                await self._answer(kind, path, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _answer(self, kind: str, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/log":
            log = json.dumps([self._good.count, self._good.last - self._good.first]).encode()
            self._good = GoodRequests()
            writer.write(whole(log))
        elif path == "/robots.txt":
            if kind in ROBOTS_ANSWERS:
                await ROBOTS_ANSWERS[kind](0, writer)
            else:
                writer.write(NO_ROBOTS)
        else:
            if kind == "good":
                await asyncio.sleep(self._latency_s)
                self._good.note()
            digits = "".join(filter(str.isdigit, path.rsplit("/", 1)[-1]))
            await KINDS[kind](int(digits[:9] or "0"), writer)


def serve(port: Any, ready: Any, latency_s: float = 0.0) -> None:
    """Serve until the process is ended."""

    async def main() -> None:
        port.value = await HostileServer(latency_s).start()
        ready.set()
        await asyncio.sleep(10**6)

    asyncio.run(main())
