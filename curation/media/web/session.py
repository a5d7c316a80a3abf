"""Sessions of HTTP whose requests reach only what the recipe permits, and carry only what it says.

All that the project requests from servers of others goes through such a session. Proxies of the
environment, `.netrc` and cookies are not used: a proxy would look names up itself, past the guard.
"""

from __future__ import annotations

import os
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from curation.media.web.guard import RefusedAddressError
from curation.media.web.params import OutboundParams

REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")


def open_session(
    outbound: OutboundParams, connector: aiohttp.TCPConnector, accept: str, **options: Any
) -> aiohttp.ClientSession:
    """Return a session without cookies, credentials and proxies; redirects are for the caller.

    Args:
        outbound: the policy.
        connector: it resolves names with a GuardedResolver. Hosts that are written as addresses pass
            by the resolver: the caller checks them with the guard before each request.
        accept: the header Accept.
        options: further arguments of the session.
    """
    headers = {"User-Agent": outbound.header, "Accept": accept, "Accept-Encoding": "identity"}
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        requote_redirect_url=False,
        trust_env=False,
        **options,
    )


def request_target(url: str) -> URL:
    """Return a normalised URL as the client library sends it: as it is, even with an empty query."""
    scheme, _, authority, target = url.split("/", 3)
    return URL.build(
        scheme=scheme.removesuffix(":"), authority=authority, path=f"/{target}", encoded=True
    )


def is_success(status: int) -> bool:
    """Whether a status is a success (RFC 9110, section 15.3), so that what it brings counts."""
    return 200 <= status < 300


def reason_of(error: Exception) -> str:
    """Return the code of an error of a request: why there is no response."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, RefusedAddressError):
        return cause.reason
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls_error"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns_error"
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError | ValueError):
        return "bad_response"
    return "connection_error"


def unused_proxies() -> str:
    """Return the names of the variables of the environment that name a proxy, which is not used."""
    return ", ".join(sorted(n for n, v in os.environ.items() if v and n.lower() in _PROXIES))
