"""Files on the web that a recipe names, as files that can be read at any place."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tempfile
from typing import Any, BinaryIO

from fsspec.asyn import get_loop, sync

from curation.masking import mask_address
from curation.media.files.source_client import RemoteFile, SourceClient
from curation.media.web.failure_reasons import is_permanent
from curation.media.web.fetch_error import FetchError
from curation.media.web.opt_outs.signals import OptOutError
from curation.media.web.params import OutboundParams
from curation.media.web.session import unused_proxies
from curation.media.web.urls import InvalidURLError, normalize

EXECUTION_ONLY = True
"""What is read are the bytes of the file, or nothing: no row depends on how."""

_PART_BYTES = 2 * 2**20
"""Bytes that one request asks for."""
MAX_WITHOUT_RANGES = 2 * 2**30
"""Largest file, in bytes, of a server that gives no parts: it is copied to a temporary file."""
MAX_BYTES = 256 * 2**30
"""Largest file, in bytes. What may be read of a list depends on its size, which its server claims."""
_MENDS = {
    "private_address": "its host has no public address. If it is a server of yours, list it under "
    "`fetch.allow_hosts`",
    "blocked_port": "only ports 80 and 443 are requested. Add its port to `fetch.ports`, or list its "
    "host under `fetch.allow_hosts`",
    "no_contact": "`fetch.contact` is required before its host is requested. Set it to an e-mail "
    "address, or to a web page about your crawl; list hosts of yours under `fetch.allow_hosts`",
    "robots_disallowed": "the robots.txt of its host forbids it. Ask the owner for the file, and name "
    "your copy; `robots: false` under `fetch` ignores all robots.txt",
    "robots_unreachable": "the robots.txt of its host cannot be read. Try again later",
    "insecure_redirect": "it redirects from https to http, where anybody may change it. Name an "
    "address that you trust",
    "changed": "it changed while it was read. Run again",
    "too_large": f"its server says that it has more than {MAX_BYTES >> 30} GiB. Download the file, "
    "and name your copy",
    "too_large_without_ranges": "its server gives no parts of files (byte ranges), and it has more "
    f"than {MAX_WITHOUT_RANGES >> 30} GiB. Download the file, and name your copy",
    "bad_url": "it is no valid URL, or has a user name or password. Correct it, or download the file, "
    "and name your copy",
}


class WebFileError(OSError):
    """A file on the web cannot be read; the message says why, and what to do.

    Args:
        message: the message.
        may_pass: whether a later attempt may succeed.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class WebFile(io.RawIOBase):
    """A file at an http or https address, read in parts as they are needed.

    If its server gives no parts, the first read copies the file to a temporary file.

    Args:
        address: its URL, as a recipe has it.
        outbound: the policy of its requests.

    Raises:
        WebFileError: it cannot be requested, or may not be.
    """

    def __init__(self, address: str, outbound: OutboundParams) -> None:
        super().__init__()
        self._address, self._outbound = address, outbound
        self._client: SourceClient | None = None
        self._copy: BinaryIO | None = None
        self._position = 0
        try:
            self._remote: RemoteFile = sync(get_loop(), self._open, normalize(address))
            self.size = self._copied() if self._remote.size is None else self._remote.size
            if self.size > MAX_BYTES:
                raise FetchError("too_large")
        except (FetchError, InvalidURLError) as error:
            self.close()
            raise self._error(error) from error

    @property
    def version(self) -> int:
        """A number that changes with the file as far as its server says so; 0 if it says nothing."""
        digest = hashlib.sha256(self._remote.validator.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:7]) if self._remote.validator else 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into `buffer`, and return how many: 0 at the end.

        Raises:
            WebFileError: they cannot be requested.
        """
        view = memoryview(buffer).cast("B")
        size = min(len(view), _PART_BYTES, self.size - self._position)
        if size <= 0:
            return 0
        try:
            content = self._read(size)
        except FetchError as error:
            raise self._error(error) from error
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        """Close the connections, and remove the temporary file."""
        if not self.closed:
            if self._client is not None:
                # Not waited for: the thread of the loop may have ended before this one.
                asyncio.run_coroutine_threadsafe(self._client.close(), get_loop())
            if self._copy is not None:
                self._copy.close()
        super().close()

    async def _open(self, address: str) -> RemoteFile:
        self._client = SourceClient(address, self._outbound)
        return await self._client.look()

    def _read(self, size: int) -> bytes:
        if self._copy is None and self._remote.ranges:
            assert self._client is not None
            part: bytes = sync(get_loop(), self._client.read, self._remote, self._position, size)
            return part
        if self._copy is None and self._copied() != self.size:
            raise FetchError("changed")
        assert self._copy is not None
        self._copy.seek(self._position)
        return self._copy.read(size)

    def _copied(self) -> int:
        """Copy the file, and return its size in bytes."""
        assert self._client is not None
        # Closed with this file.
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115
        size: int = sync(get_loop(), self._client.save, self._copy, MAX_WITHOUT_RANGES)
        return size

    def _error(self, error: FetchError | InvalidURLError) -> WebFileError:
        proxies = unused_proxies()
        unused = f" The proxy that {proxies} names is not used." if proxies else ""
        may_pass = isinstance(error, FetchError) and (
            error.transient or error.reason == "changed" or not is_permanent(error.reason)
        )
        message = f"{mask_address(self._address)}: {_problem(error)}.{unused}"
        return WebFileError(message, may_pass)


def _problem(error: FetchError | InvalidURLError) -> str:
    """Return what is wrong with a file, and how to mend it."""
    if isinstance(error, OptOutError) and error.reason not in _MENDS:
        return (
            f"its host opts out: {error.opt_out.described}. Ask the owner for the file, and name your "
            f"copy; `fetch.opt_out_signals` without {error.opt_out.signal} ignores this"
        )
    return _MENDS.get(
        error.reason,
        f"{error.reason}. Look whether the address is right and its server answers, or download the "
        "file and name your copy",
    )
