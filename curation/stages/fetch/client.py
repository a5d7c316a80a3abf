"""The HTTP client: downloads from untrusted hosts, within limits of size, time and addresses."""

from __future__ import annotations

import asyncio
import re
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

from curation.media.web.fetch_error import FetchError
from curation.media.web.guard import (
    Guard,
    GuardedResolver,
    PrivateAddressError,
    RefusedAddressError,
)
from curation.media.web.robots import MAX_ROBOTS_BYTES, opted_out, product_of
from curation.media.web.session import REDIRECT_STATUSES, open_session, request_target
from curation.media.web.urls import InvalidURLError, join
from curation.stages.fetch.content_coding import decode_body
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.response_repair import MAX_LINE_BYTES, RepairingConnector

_CHUNK = 64 * 1024
_BODY_STATUSES = (200, 203)
_WHOLE_RANGE = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")
_MAX_BODY_BYTES_IN_MEMORY = 512 * 2**20
_DNS_THREADS = 16


class ByteBudget:
    """Limits the bytes of all bodies in memory. A body reserves its bytes before it is read."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: deque[asyncio.Event] = deque()

    async def acquire(self, size: int, deadline: asyncio.Timeout) -> None:
        """Reserve `size` bytes; the time until they are free does not count against `deadline`."""
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

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        self._free += size
        while self._waiting:
            self._waiting.popleft().set()


class Reservation:
    """The bytes that one body has reserved of a budget."""

    def __init__(self, budget: ByteBudget, deadline: asyncio.Timeout) -> None:
        self._budget, self._deadline, self._size = budget, deadline, 0

    async def acquire(self, size: int) -> None:
        """Reserve `size` bytes."""
        await self._budget.acquire(size, self._deadline)
        self._size = size

    def shrink(self, size: int) -> None:
        """Keep `size` bytes and give back the rest."""
        self._budget.release(self._size - size)
        self._size = size

    def release(self) -> None:
        """Give all bytes back."""
        self.shrink(0)


@dataclass(frozen=True)
class Body:
    """A downloaded body; its bytes stay reserved until `release` is called."""

    content: bytes
    release: Callable[[], None]


@dataclass(frozen=True)
class Redirect:
    """A redirect to a normalised URL."""

    url: str


class Client:
    """The HTTP session of one fragment. Requests share connections but no cookies or credentials."""

    def __init__(self, params: FetchParams) -> None:
        self._params = params
        self._product = product_of(params.user_agent)
        self._guard = Guard(params.allow_hosts, params.ports)
        self._budget = ByteBudget(max(_MAX_BODY_BYTES_IN_MEMORY, 2 * params.max_bytes))
        self._dns = ThreadPoolExecutor(min(_DNS_THREADS, params.concurrency), "curation-dns")
        connector = RepairingConnector(
            limit=0, resolver=GuardedResolver(self._guard, self._dns), ttl_dns_cache=300
        )
        # Images are compressed already. `decode_body` reads what is compressed all the same.
        self._session = open_session(
            params,
            connector,
            "image/*,*/*;q=0.5",
            max_line_size=2 * MAX_LINE_BYTES,
            max_field_size=2 * MAX_LINE_BYTES,
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
        # A name lookup may hang long after its row has timed out.
        self._dns.shutdown(wait=False, cancel_futures=True)

    async def get(self, url: str, robots: bool = False) -> Body | Redirect:
        """Request a normalised URL, and return the body or the redirect of the response.

        Args:
            url: of an image, or of a robots.txt.
            robots: whether it is a robots.txt, of which only the first 500 KiB are read.

        Raises:
            FetchError: there was no body or redirect within the limits.
        """
        try:
            async with asyncio.timeout(self._params.timeout_s) as deadline:
                reservation = Reservation(self._budget, deadline)
                try:
                    response = await self._request(url, reservation, robots)
                except BaseException:
                    reservation.release()
                    raise
        except TimeoutError as error:
            raise FetchError("timeout", transient=True, unanswered=True) from error
        except RefusedAddressError as error:
            raise _refused(error) from error
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise _fetch_error(error) from error
        return response if isinstance(response, Redirect) else Body(response, reservation.release)

    async def _request(self, url: str, reservation: Reservation, robots: bool) -> bytes | Redirect:
        target = request_target(url)
        self._guard.check(target.raw_host or "", target.port or 0)
        async with self._session.get(target, allow_redirects=False) as response:
            if response.status in REDIRECT_STATUSES:
                return Redirect(_redirect_target(url, response.headers.get("Location")))
            if response.status not in _BODY_STATUSES and not _is_whole(response):
                raise _status_error(response)
            if robots:
                return await self._read_robots(response, reservation)
            if opted_out(response.headers, self._product, self._params.opt_out):
                raise FetchError("opted_out")
            return await self._read_image(response, reservation)

    async def _read_robots(
        self, response: aiohttp.ClientResponse, reservation: Reservation
    ) -> bytes:
        """Return the part of a robots.txt that counts."""
        await reservation.acquire(2 * MAX_ROBOTS_BYTES)
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) >= MAX_ROBOTS_BYTES:
                break
        return decode_body(bytes(body[:MAX_ROBOTS_BYTES]), _coding(response), MAX_ROBOTS_BYTES)

    async def _read_image(
        self, response: aiohttp.ClientResponse, reservation: Reservation
    ) -> bytes:
        limit = self._params.max_bytes
        length = response.content_length
        if length is not None and length > limit:
            raise FetchError("too_large")
        coding = _coding(response)
        largest = limit if length is None else length
        await reservation.acquire(largest + limit if coding else largest)
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > limit:
                raise FetchError("too_large")
        content = decode_body(bytes(body), coding, limit + 1)
        if len(content) > limit:
            raise FetchError("too_large")
        reservation.shrink(len(content))
        return content


def _coding(response: aiohttp.ClientResponse) -> str:
    coding = ",".join(response.headers.getall("Content-Encoding", ()))
    return "" if coding.strip().lower() == "identity" else coding


def _is_whole(response: aiohttp.ClientResponse) -> bool:
    """Whether a partial response (206), which nobody asked for, has the whole file all the same."""
    if response.status != 206:
        return False
    whole = _WHOLE_RANGE.fullmatch(response.headers.get("Content-Range", "").strip().lower())
    return whole is not None and int(whole[1]) + 1 == int(whole[2])


def _status_error(response: aiohttp.ClientResponse) -> FetchError:
    """Return the error of a status other than 200, with the pause that a busy server asks for."""
    reason = f"http_{response.status}"
    if response.status in (429, 503):
        wait_s = _parse_retry_after(response.headers.get("Retry-After", ""))
        return FetchError(reason, transient=True, wait_s=wait_s)
    return FetchError(reason, transient=response.status >= 500)


def _parse_retry_after(retry_after: str) -> float:
    """Return the seconds of a Retry-After header (RFC 9110, section 10.2.3); 0 if it is invalid."""
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        due = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)
    return max(0.0, (due - datetime.now(UTC)).total_seconds())


def _redirect_target(origin: str, location: str | None) -> str:
    """Return the URL that a redirect leads to, normalised."""
    if not location:
        raise FetchError("bad_redirect")
    try:
        return join(origin, location)
    except InvalidURLError as error:
        raise FetchError("bad_redirect") from error


def _refused(error: RefusedAddressError) -> FetchError:
    # A host whose addresses are private is so at every port.
    private = isinstance(error, PrivateAddressError)
    return FetchError(error.reason, unanswered=private, whole_host=private)


def _fetch_error(error: Exception) -> FetchError:
    """Return the error of a row for an error of the client library."""
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, RefusedAddressError):
            return _refused(cause)
        if isinstance(error, aiohttp.ClientSSLError) or isinstance(cause, ssl.SSLError):
            return FetchError("tls_error")
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            # A name may resolve later only if the resolver itself failed.
            busy = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN
            return FetchError("dns_error", transient=busy, unanswered=True, whole_host=not busy)
        return FetchError("connection_error", transient=True, unanswered=True)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return FetchError("tls_error")
    if isinstance(error, aiohttp.InvalidURL):
        return FetchError("bad_url")
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return FetchError("bad_response")
    return FetchError("connection_error", transient=True, unanswered=True)
