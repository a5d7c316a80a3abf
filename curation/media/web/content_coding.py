"""Bodies that a server compressed although it was asked not to (RFC 9110, section 8.4)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import brotli

from curation.media.web.fetch_error import FetchError

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

_MAX_CODINGS = 3
_MAX_GZIP_MEMBERS = 64
_GZIP_MAGIC = b"\x1f\x8b"


def coding_of(headers: CIMultiDictProxy[str]) -> str:
    """Return the content codings of a response, as its headers have them; empty for none."""
    coding = ",".join(headers.getall("Content-Encoding", ()))
    return "" if coding.strip().lower() == "identity" else coding


def decode_body(content: bytes, content_encoding: str, limit: int) -> bytes:
    """Return at most `limit` bytes of a body without its content codings.

    A coding that is unknown, or that the body does not have, is ignored: plain clients read such a body
    as it is.

    Args:
        content: as it was sent.
        content_encoding: value of the header.
        limit: largest number of bytes to return.

    Raises:
        FetchError: the body begins in its coding, and is damaged after that or of a coding that is not
            undone.
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    for coding in reversed(codings[-_MAX_CODINGS:]):
        decode = _DECODERS.get(coding)
        if decode is not None:
            content = decode(content, limit)
    return content[:limit]


def _gzip(content: bytes, limit: int) -> bytes:
    decoded, rest = b"", content
    for _ in range(_MAX_GZIP_MEMBERS):
        # What follows the last member is dropped, as browsers do.
        if not rest.startswith(_GZIP_MAGIC):
            break
        member = zlib.decompressobj(wbits=31)
        try:
            decoded += member.decompress(rest, limit - len(decoded))
        except zlib.error as error:
            raise FetchError("bad_response") from error
        if not member.eof or len(decoded) >= limit:
            break
        rest = member.unused_data
    return decoded if content.startswith(_GZIP_MAGIC) else content


def _deflate(content: bytes, limit: int) -> bytes:
    # Some servers send the raw format, without the header of zlib.
    has_header = (
        len(content) > 1 and content[0] & 15 == 8 and not (content[0] << 8 | content[1]) % 31
    )
    try:
        return zlib.decompressobj(wbits=15 if has_header else -15).decompress(content, limit)
    except zlib.error:
        return content


def _brotli(content: bytes, limit: int) -> bytes:
    decoded = b""
    try:
        for part in brotli_parts(content, limit):
            decoded += part
    except brotli.error as error:
        if decoded:
            raise FetchError("bad_response") from error
        return content
    return decoded


def brotli_parts(packed: bytes, limit: int) -> Iterator[bytes]:
    """Yield what brotli has compressed, until it has at least `limit` bytes or ends.

    Raises:
        brotli.error: it is damaged after what was yielded.
    """
    decoder, size = brotli.Decompressor(), 0
    while size < limit and not decoder.is_finished():
        part = decoder.process(b"" if size else packed, output_buffer_limit=limit)
        if not part:
            break
        size += len(part)
        yield part


def _refused(magic: bytes) -> Callable[[bytes, int], bytes]:
    """Return what refuses a coding that is not undone: robots.txt in it is not one without rules."""

    def decode(content: bytes, limit: int) -> bytes:
        if content.startswith(magic):
            raise FetchError("bad_response")
        return content

    return decode


_DECODERS = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _refused(b"\x28\xb5\x2f\xfd"),
    "compress": _refused(b"\x1f\x9d"),
    "x-compress": _refused(b"\x1f\x9d"),
}
