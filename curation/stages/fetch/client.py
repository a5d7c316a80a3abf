"""The HTTP client: downloads from untrusted hosts, within limits of size, time and addresses."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from curation.media.web.content_coding import coding_of, decode_body
from curation.media.web.failure_reasons import is_permanent
from curation.media.web.fetch_error import FetchError
from curation.media.web.guard import (
    Guard,
    GuardedResolver,
    PrivateAddressError,
    RefusedAddressError,
)
from curation.media.web.lookups import Lookups, lookup_error
from curation.media.web.opt_outs.headers import header_opt_out, linked_license
from curation.media.web.opt_outs.policy import opt_out_policy
from curation.media.web.opt_outs.signals import OptOutError
from curation.media.web.opt_outs.site import MAX_FILE_BYTES
from curation.media.web.session import (
    REDIRECT_STATUSES,
    is_success,
    open_session,
    request_target,
)
from curation.media.web.urls import InvalidURLError, join
from curation.stages.fetch.byte_budget import SMALL_BYTES, ByteBudget, Reservation
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.response_repair import MAX_LINE_BYTES, RepairingConnector

_CHUNK = 64 * 1024
_BODY_STATUSES = (200, 203)
_WHOLE_RANGE = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")
_MAX_BODY_BYTES_IN_MEMORY = 512 * 2**20
_WAITING_BODY_BYTES = 64 * 2**20
_KEEP_S = 5.0
"""Seconds for which a connection is kept: each is a file of the process, also if its host is done."""
_MAX_DATE = 64
"""Characters of a Retry-After that are read."""
_MAX_WAIT_S = 1e9
"""Seconds that stand for all longer pauses."""


@dataclass(frozen=True)
class Body:
    """A downloaded body; its bytes stay reserved until `release` is called.

    Attributes:
        content: the bytes.
        license: address of the licence that the headers name, normalised.
        release: gives the reserved bytes back.
    """

    content: bytes
    license: str | None
    release: Callable[[], None]


@dataclass(frozen=True)
class Redirect:
    """A redirect to a normalised URL."""

    url: str


class Client:
    """The HTTP session of one fragment. Requests share connections but no cookies or credentials.

    Attributes:
        lookups: the names that were resolved.
    """

    def __init__(self, params: FetchParams) -> None:
        self._params = params
        self._policy = opt_out_policy(params)
        self._guard = Guard(params.allow_hosts, params.ports)
        shared = _MAX_BODY_BYTES_IN_MEMORY - params.concurrency * SMALL_BYTES
        self._budget = ByteBudget(max(shared, 2 * params.max_bytes))
        self.lookups = Lookups(params.timeout_s)
        connector = RepairingConnector(
            limit=0,
            resolver=GuardedResolver(self._guard, self.lookups),
            use_dns_cache=False,
            keepalive_timeout=_KEEP_S,
        )
        # Images are compressed already. `decode_body` reads what is compressed all the same.
        self._session = open_session(
            params,
            connector,
            "image/*,*/*;q=0.5",
            max_line_size=2 * MAX_LINE_BYTES,
            max_field_size=2 * MAX_LINE_BYTES,
        )

    def may_wait(self) -> bool:
        """Limit the bodies in memory to a small part, so that another client may work beside this one.

        Returns:
            Whether they are within it; if not, the limit stays.
        """
        return self._budget.limit_to(max(_WAITING_BODY_BYTES, 2 * self._params.max_bytes))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def get(self, url: str, of_site: bool = False) -> Body | Redirect:
        """Request a normalised URL, and return the body or the redirect of the response.

        Args:
            url: of an image, or of a file with the rules of a site.
            of_site: whether it is such a file, of which only the first 500 KiB are read.

        Raises:
            FetchError: there was no body or redirect within the limits.
        """
        try:
            async with asyncio.timeout(self._params.timeout_s) as deadline:
                reservation = Reservation(self._budget, deadline)
                try:
                    response = await self._request(url, reservation, of_site)
                except BaseException:
                    reservation.release()
                    raise
        except TimeoutError as error:
            raise FetchError("timeout", transient=True, unanswered=True) from error
        except RefusedAddressError as error:
            raise _refused(error) from error
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise _fetch_error(error) from error
        if isinstance(response, Redirect):
            return response
        content, license = response
        return Body(content, license, reservation.release)

    async def _request(
        self, url: str, reservation: Reservation, of_site: bool
    ) -> tuple[bytes, str | None] | Redirect:
        target = request_target(url)
        self._guard.check(target.raw_host or "", target.port or 0)
        async with self._session.get(target, allow_redirects=False) as response:
            redirected = response.status in REDIRECT_STATUSES
            if not (redirected or _has_body(response, of_site)):
                raise _status_error(response)
            opt_out = None if of_site else header_opt_out(response.headers, url, self._policy)
            if opt_out is not None:
                raise OptOutError(opt_out)
            if redirected:
                return Redirect(_redirect_target(url, response.headers.get("Location")))
            license = linked_license(response.headers.getall("Link", ()), url)
            read = self._read_rules if of_site else self._read_image
            return await read(response, reservation), license

    async def _read_rules(
        self, response: aiohttp.ClientResponse, reservation: Reservation
    ) -> bytes:
        """Return the part of a file of a site that counts."""
        coding = coding_of(response.headers)
        with _emptied_at_the_end() as body:
            async for chunk in response.content.iter_chunked(_CHUNK):
                await reservation.grow(len(chunk))
                body += chunk
                if len(body) >= MAX_FILE_BYTES:
                    break
            if coding:
                await reservation.grow(MAX_FILE_BYTES)
            reservation.complete()
            return await _decoded(body[:MAX_FILE_BYTES], coding, MAX_FILE_BYTES)

    async def _read_image(
        self, response: aiohttp.ClientResponse, reservation: Reservation
    ) -> bytes:
        limit = self._params.max_bytes
        length = response.content_length
        if length is not None and length > limit:
            raise FetchError("too_large")
        coding = coding_of(response.headers)
        with _emptied_at_the_end() as body:
            async for chunk in response.content.iter_chunked(_CHUNK):
                # Not before: a body that drips would keep memory that it never fills from others.
                await reservation.grow(len(chunk))
                body += chunk
                if len(body) > limit:
                    raise FetchError("too_large")
            if coding:
                await reservation.grow(limit)
            reservation.complete()
            content = await _decoded(body, coding, limit + 1)
        if len(content) > limit:
            raise FetchError("too_large")
        reservation.shrink(len(content))
        return content


@contextmanager
def _emptied_at_the_end() -> Iterator[bytearray]:
    """Yield a body, which keeps no bytes afterwards.

    An error of the client library is in a cycle with the frames that it passed. Their bytes would stay
    until garbage is collected, beside those that the budget counts.
    """
    body = bytearray()
    try:
        yield body
    finally:
        body.clear()


async def _decoded(body: bytearray, coding: str, limit: int) -> bytes:
    """Return a body without its codings, which are undone in a thread: they may take long."""
    if not coding:
        return bytes(body)
    return await asyncio.to_thread(decode_body, bytes(body), coding, limit)


def _has_body(response: aiohttp.ClientResponse, of_site: bool) -> bool:
    """Whether a response has what was asked for: of a site's file, any success may forbid something."""
    if of_site:
        return is_success(response.status)
    return response.status in _BODY_STATUSES or _is_whole(response)


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
    return FetchError(reason, transient=not is_permanent(reason))


def _parse_retry_after(retry_after: str) -> float:
    """Return the seconds of a Retry-After header (RFC 9110, section 10.2.3); 0 if it is invalid."""
    if retry_after.isdecimal():
        return min(float(retry_after[:_MAX_DATE]), _MAX_WAIT_S)
    try:
        due = parsedate_to_datetime(retry_after[:_MAX_DATE])
        wait_s = (due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, wait_s), _MAX_WAIT_S)


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
            return lookup_error(cause)
        return FetchError("connection_error", transient=True, unanswered=True)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return FetchError("tls_error")
    if isinstance(error, aiohttp.InvalidURL):
        return FetchError("bad_url")
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return FetchError("bad_response")
    return FetchError("connection_error", transient=True, unanswered=True)
