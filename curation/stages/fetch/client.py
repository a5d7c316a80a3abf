"""Bytes behind URLs of strangers, within bounds of size, time, redirects and addresses."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from curation.media.web.guard import Guard, GuardedResolver, PrivateAddressError
from curation.media.web.refusal import RefusedError
from curation.media.web.robots import ROBOTS_BYTES, opted_out, product_of
from curation.media.web.urls import RefusedURLError, normalize
from curation.stages.fetch.params import FetchParams

_CHUNK = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_BYTES_IN_FLIGHT = 512 * 2**20
_HEADER_BYTES = 16 * 1024
_DNS_THREADS = 16


class ByteBudget:
    """Bytes that may be in memory at once. A body takes its share before it is read."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: deque[asyncio.Event] = deque()

    async def take(self, size: int, deadline: asyncio.Timeout) -> None:
        """Take `size` bytes; waiting for them does not count against `deadline`."""
        loop = asyncio.get_running_loop()
        while self._free < size:
            due, started = deadline.when(), loop.time()
            deadline.reschedule(None)
            freed = asyncio.Event()
            self._waiting.append(freed)
            await freed.wait()
            if due is not None:
                deadline.reschedule(due + loop.time() - started)
        self._free -= size

    def give(self, size: int) -> None:
        """Give bytes back."""
        self._free += size
        while self._waiting:
            self._waiting.popleft().set()


class Share:
    """One body's part of a budget, until it is released."""

    def __init__(self, budget: ByteBudget, deadline: asyncio.Timeout) -> None:
        self._budget, self._deadline, self._size = budget, deadline, 0

    async def take(self, size: int) -> None:
        """Take `size` bytes."""
        await self._budget.take(size, self._deadline)
        self._size = size

    def shrink(self, size: int) -> None:
        """Keep `size` bytes and give back the rest."""
        self._budget.give(self._size - size)
        self._size = size

    def release(self) -> None:
        """Give everything back."""
        self.shrink(0)


@dataclass(frozen=True)
class Body:
    """Bytes that came; they count in the budget until `release` is called."""

    content: bytes
    release: Callable[[], None]


@dataclass(frozen=True)
class Redirect:
    """Where a server says that to go instead, normalised."""

    url: str


class Client:
    """One session for a fragment. Nothing is kept between requests but connections."""

    def __init__(self, params: FetchParams) -> None:
        self._params = params
        self._product = product_of(params.user_agent)
        self._guard = Guard(params.allow_hosts)
        self._budget = ByteBudget(max(_BYTES_IN_FLIGHT, 2 * params.max_bytes))
        self._dns = ThreadPoolExecutor(min(_DNS_THREADS, params.concurrency), "curation-dns")
        connector = aiohttp.TCPConnector(
            limit=0, resolver=GuardedResolver(self._guard, self._dns), ttl_dns_cache=300
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Images are compressed already; what comes compressed all the same is bounded too.
            headers={
                "User-Agent": params.header,
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            requote_redirect_url=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        # A lookup may hang for long after its row has timed out.
        self._dns.shutdown(wait=False, cancel_futures=True)

    async def ask(self, url: str, robots: bool = False) -> Body | Redirect:
        """Return what is behind a normalised URL, or where it has gone.

        Args:
            url: of the picture, or of a robots.txt, of which no more is read than counts.
            robots: whether it is a robots.txt.

        Raises:
            RefusedError: there is neither within the bounds.
        """
        try:
            async with asyncio.timeout(self._params.timeout_s) as deadline:
                share = Share(self._budget, deadline)
                try:
                    found = await self._respond(url, share, robots)
                except BaseException:
                    share.release()
                    raise
        except TimeoutError as error:
            raise RefusedError("timeout", transient=True, silent=True) from error
        except PrivateAddressError as error:
            raise RefusedError("private_address", silent=True, whole_host=True) from error
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise _refusal(error) from error
        return found if isinstance(found, Redirect) else Body(found, share.release)

    async def _respond(self, url: str, share: Share, robots: bool) -> bytes | Redirect:
        target = URL(url, encoded=True)
        self._guard.check_literal(target.raw_host or "")
        async with self._session.get(target, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                return Redirect(_redirected(target, response.headers.get("Location")))
            if response.status != 200:
                raise _unwilling(response)
            if robots:
                return await self._head(response, share)
            if opted_out(response.headers, self._product, self._params.opt_out):
                raise RefusedError("opted_out")
            return await self._body(response, share)

    async def _head(self, response: aiohttp.ClientResponse, share: Share) -> bytes:
        """Return as much of a body as counts in a robots.txt."""
        await share.take(ROBOTS_BYTES)
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) >= ROBOTS_BYTES:
                break
        return bytes(body[:ROBOTS_BYTES])

    async def _body(self, response: aiohttp.ClientResponse, share: Share) -> bytes:
        limit = self._params.max_bytes
        length = response.content_length
        if length is not None and length > limit:
            raise RefusedError("too_large")
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        await share.take(limit if length is None or encoded else length)
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > limit:
                raise RefusedError("too_large")
        share.shrink(len(body))
        return bytes(body)


def _unwilling(response: aiohttp.ClientResponse) -> RefusedError:
    """Return the reason of a status other than 200; busy servers say when to come again."""
    reason = f"http_{response.status}"
    if response.status in (429, 503):
        wait_s = _seconds(response.headers.get("Retry-After", ""))
        return RefusedError(reason, transient=True, wait_s=wait_s)
    return RefusedError(reason, transient=response.status >= 500)


def _seconds(retry_after: str) -> float:
    """Return the seconds that a Retry-After asks for, as a number or a date; 0 where it does not."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        due = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)
    return max(0.0, (due - datetime.now(UTC)).total_seconds())


def _redirected(origin: URL, location: str | None) -> str:
    """Return where a redirect leads, normalised."""
    if not location:
        raise RefusedError("bad_redirect")
    try:
        return normalize(str(origin.join(URL(location))))
    except (RefusedURLError, ValueError) as error:
        raise RefusedError("bad_redirect") from error


def _refusal(error: Exception) -> RefusedError:
    """Return the row's reason for what the client library raised."""
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, PrivateAddressError):
            return RefusedError("private_address", silent=True, whole_host=True)
        if isinstance(error, aiohttp.ClientSSLError) or isinstance(cause, ssl.SSLError):
            return RefusedError("tls_error")
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            # Only a resolver that is in trouble itself may know the name later.
            busy = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN
            return RefusedError("dns_error", transient=busy, silent=True, whole_host=not busy)
        return RefusedError("connection_error", transient=True, silent=True)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return RefusedError("tls_error")
    if isinstance(error, aiohttp.InvalidURL):
        return RefusedError("bad_url")
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return RefusedError("bad_response")
    return RefusedError("connection_error", transient=True, silent=True)
