"""The client for one file on the web that a recipe names: the policy of all requests, and ranges."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from curation.media.files.temporary_files import on_temporary_disk
from curation.media.web.content_coding import coding_of, decode_body
from curation.media.web.failure_reasons import is_permanent
from curation.media.web.fetch_error import FetchError, unforeseen
from curation.media.web.guard import Guard, GuardedResolver, RefusedAddressError
from curation.media.web.lookups import Lookups
from curation.media.web.opt_outs.headers import header_opt_out
from curation.media.web.opt_outs.policy import opt_out_policy
from curation.media.web.opt_outs.signals import ROBOTS, OptOutError
from curation.media.web.opt_outs.site import (
    MAX_FILE_BYTES,
    SiteFile,
    SiteRules,
    first_file,
    next_file,
    read_site_file,
    rules_after_failure,
)
from curation.media.web.params import OutboundParams
from curation.media.web.session import (
    REDIRECT_STATUSES,
    is_success,
    open_session,
    reason_of,
    request_target,
)
from curation.media.web.urls import InvalidURLError, host_of, join, port_of

T = TypeVar("T")

_TRIES = 3
_FIRST_PAUSE_S = 0.5
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_CHUNK = 64 * 1024
_REFUSALS = ("private_address", "blocked_port", "no_contact", "insecure_redirect")
_MAX_ROBOTS_REDIRECTS = 5


@dataclass(frozen=True)
class RemoteFile:
    """What a server says of a file.

    Attributes:
        size: in bytes; None if the server does not say.
        validator: ETag and time of modification, which change with the file; may be empty.
        ranges: whether parts of the file can be requested.
    """

    size: int | None
    validator: str
    ranges: bool


class SourceClient:
    """Requests one file, and the rules of the hosts that it is read from.

    Args:
        address: of the file, normalised.
        outbound: the policy.
    """

    def __init__(self, address: str, outbound: OutboundParams) -> None:
        self._address, self._outbound = address, outbound
        self._policy = opt_out_policy(outbound)
        self._guard = Guard(outbound.allow_hosts, outbound.ports)
        resolver = GuardedResolver(self._guard, Lookups(outbound.timeout_s))
        connector = aiohttp.TCPConnector(resolver=resolver, ttl_dns_cache=300)
        self._session = open_session(outbound, connector, "*/*")
        self._rules: dict[str, SiteRules] = {}

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def look(self) -> RemoteFile:
        """Return what the server says of the file.

        Raises:
            FetchError: it cannot be requested, or may not be.
        """
        return await self._tried(self._look)

    async def read(self, file: RemoteFile, start: int, size: int) -> bytes:
        """Return a part of a file whose server gives parts.

        Args:
            file: what the server said of it.
            start: place of the first byte.
            size: bytes to read; the part lies within the file.

        Raises:
            FetchError: it cannot be requested; the reason is `changed` if it is another file by now.
        """

        async def read() -> bytes:
            wanted = {"Range": f"bytes={start}-{start + size - 1}"}
            async with (
                asyncio.timeout(self._outbound.timeout_s),
                self._get(self._address, wanted) as response,
            ):
                given = _given_range(response)
                if given is None or given[0] != start or _described(response, given[2]) != file:
                    raise FetchError("changed")
                return await response.content.readexactly(size)

        return await self._tried(read)

    async def save(self, target: BinaryIO, limit: int) -> int:
        """Write the whole file to `target` and return its size; each MiB must come within `timeout_s`.

        Raises:
            FetchError: it cannot be requested, ends early, or is larger than `limit` bytes.
        """

        async def save() -> int:
            loop, size = asyncio.get_running_loop(), 0
            with on_temporary_disk():
                target.seek(0)
                target.truncate()
            async with (
                asyncio.timeout(self._outbound.timeout_s) as deadline,
                self._get(self._address) as response,
            ):
                async for chunk in response.content.iter_chunked(_CHUNK):
                    if size >> 20 != (size + len(chunk)) >> 20:
                        deadline.reschedule(loop.time() + self._outbound.timeout_s)
                    size += len(chunk)
                    if size > limit:
                        raise FetchError("too_large_without_ranges")
                    with on_temporary_disk():
                        target.write(chunk)
            return size

        return await self._tried(save)

    async def _look(self) -> RemoteFile:
        async with asyncio.timeout(self._outbound.timeout_s):
            try:
                async with self._get(self._address, {"Range": "bytes=0-0"}) as response:
                    given = _given_range(response)
                    if given is not None or response.status == 200:
                        return _described(response, given[2] if given else None)
            except FetchError as error:
                # Of an empty file there is no first byte.
                if error.reason != "http_416":
                    raise
            async with self._get(self._address) as response:
                return _described(response, None)

    async def _tried(self, request: Callable[[], Awaitable[T]]) -> T:
        """Return what a request gives, tried again after failures that may pass."""
        for number in range(1, _TRIES + 1):
            try:
                return await request()
            except FetchError as error:
                failure = error
            except (
                aiohttp.ClientError,
                HttpProcessingError,
                EOFError,
                OSError,
                ValueError,
            ) as error:
                failure = FetchError(reason_of(error))
            except Exception as error:
                failure = unforeseen(error)
            if number == _TRIES or is_permanent(failure.reason):
                raise failure
            await asyncio.sleep(_FIRST_PAUSE_S * 2**number)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _get(
        self, url: str, headers: Mapping[str, str] | None = None, of_site: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Request a normalised URL, follow its redirects, and give the response.

        Args:
            url: of the file, or of a file with the rules of a site.
            headers: further headers.
            of_site: whether it is such a file.
        """
        redirects = _MAX_ROBOTS_REDIRECTS if of_site else self._outbound.max_redirects
        for _ in range(redirects + 1):
            self._check_host(url)
            if not of_site:
                await self._check_rules(url)
            target = request_target(url)
            async with self._session.get(
                target, headers=headers, allow_redirects=False
            ) as response:
                self._check_headers(url, response, of_site)
                if response.status in (200, 206) or (of_site and is_success(response.status)):
                    yield response
                    return
                if response.status not in REDIRECT_STATUSES:
                    raise FetchError(f"http_{response.status}")
                url = _redirected(url, response.headers.get("Location", ""))
        raise FetchError("too_many_redirects")

    def _check_host(self, url: str) -> None:
        host, port = host_of(url), port_of(url)
        try:
            self._guard.check(host, port)
        except RefusedAddressError as error:
            raise FetchError(error.reason) from error
        if self._outbound.contact is None and not self._guard.is_listed(host):
            raise FetchError("no_contact")

    def _check_headers(self, url: str, response: aiohttp.ClientResponse, of_site: bool) -> None:
        opt_out = header_opt_out(response.headers, url, self._policy)
        if opt_out is not None and not of_site:
            raise OptOutError(opt_out)

    async def _check_rules(self, url: str) -> None:
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._rules:
            self._rules[origin] = await self._rules_of(origin)
        rules = self._rules[origin]
        if rules.error is not None:
            raise rules.error
        opt_out = rules.opt_out(url)
        if opt_out is not None:
            raise OptOutError(opt_out)

    async def _rules_of(self, origin: str) -> SiteRules:
        rules, file = SiteRules(), first_file(origin, self._policy)
        while file is not None:
            rules = await self._with_file(file, rules, origin)
            file = next_file(file, origin, rules, self._policy)
        return rules

    async def _with_file(self, file: SiteFile, known: SiteRules, origin: str) -> SiteRules:
        try:
            content = await self._site_file(file.url)
        except FetchError as error:
            # The host itself was checked before: only a redirect can lead where none may go.
            return rules_after_failure(file, known, error, error.reason in _REFUSALS)
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError):
            if file.kind == ROBOTS:
                raise
            return known
        return read_site_file(file, content, known, self._policy, origin)

    async def _site_file(self, url: str) -> bytes:
        """Return the part of a file of a site that counts, without its content codings."""
        body = bytearray()
        async with self._get(url, of_site=True) as response:
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) >= MAX_FILE_BYTES:
                    break
            coding = coding_of(response.headers)
        return decode_body(bytes(body[:MAX_FILE_BYTES]), coding, MAX_FILE_BYTES)


def _redirected(url: str, location: str) -> str:
    if not location:
        raise FetchError("bad_redirect")
    try:
        target = join(url, location)
    except InvalidURLError as error:
        raise FetchError("bad_redirect") from error
    if url.startswith("https:") and not target.startswith("https:"):
        raise FetchError("insecure_redirect")
    return target


def _given_range(response: aiohttp.ClientResponse) -> tuple[int, int, int] | None:
    """Return first byte, last byte and size of the file of a partial response."""
    if response.status != 206:
        return None
    given = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return (int(given[1]), int(given[2]), int(given[3])) if given else None


def _described(response: aiohttp.ClientResponse, size: int | None) -> RemoteFile:
    """Return what a response says of its file.

    Args:
        response: the response.
        size: of the file, if the response is a part of it.
    """
    fields = [response.headers.get(name, "") for name in ("ETag", "Last-Modified")]
    length = response.content_length if size is None else size
    return RemoteFile(length, " ".join(fields).strip(), ranges=size is not None)
