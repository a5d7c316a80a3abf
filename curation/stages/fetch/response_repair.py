"""Responses as servers send them, rewritten in the strict form that aiohttp's parser takes.

Browsers read much that HTTP/1.1 (RFC 9112) does not permit, and the parser refuses it. What is not
clear stays refused: two different lengths, a head that is no HTTP, a head without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

from curation.media.web.opt_outs.headers import HEADERS

MAX_HEAD_BYTES = 256 * 1024
"""Bytes of the heads of a response, with those of interim responses (as in Chrome)."""
MAX_LINE_BYTES = 64 * 1024
"""Bytes of one header field (as in Python's http.client)."""
_MAX_CHUNK_LINE = 4096
_MANY_CHUNKS, _CHUNK_BYTES = 10_000, 64
"""A body may have so many chunks, and more where they hold so many bytes each: each chunk takes time of
the loop that all hosts share."""
_STATUS_LINE = re.compile(rb"(?i:http/(\d+)(?:\.(\d+))?|icy)[ \t]+(\d{3})(?!\d).*", re.DOTALL)
_EMPTY_LINES = re.compile(rb"[\r\n]*")
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"(?<![ \t])[ \t]*(?:\r?\n[ \t]+)+")
"""Between the lines of a folded field. The look-behind keeps it linear in runs of spaces."""
_CHUNK_SIZE = re.compile(rb"[ \t]*0*([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?\r?\n", re.DOTALL)
_KEPT = frozenset(
    name.encode()
    for name in ("content-encoding", "content-range", "location", "retry-after", *HEADERS)
)
_MAX_INTERIM = 100
"""Interim responses (1xx) before a response: each takes time of the loop, too."""
_NO_BODY = (204, 304)
_CLEAN_END = (b"\r\n", b"\n")


class ResponseRepair:
    """Rewrites the bytes of one response.

    Attributes:
        reusable: whether the connection may be used for another request.
        finished: the response is complete; what follows is dropped.
        broken: the body cannot be read further. It ends here, as if the connection had ended.
    """

    def __init__(self) -> None:
        self.reusable, self.finished, self.broken = True, False, False
        self._pending = bytearray()
        # No bound method: it would be a cycle with this object, garbage for each response.
        self._step: Callable[[ResponseRepair], bytes | None] = ResponseRepair._read_head
        self._head_bytes = self._searched = self._left = 0
        self._spare_chunks, self._interim = _MANY_CHUNKS, 0

    def feed(self, received: bytes) -> bytes:
        """Return the bytes for the parser, which may be none yet.

        Raises:
            BadHttpMessage: what came is not the head of a response.
        """
        self._pending += received
        parts = []
        while (part := self._step(self)) is not None:
            parts.append(part)
        return b"".join(parts)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._pending[:size])
        del self._pending[:size]
        return taken

    def _read_head(self) -> bytes | None:
        if not self._searched:
            blank = _EMPTY_LINES.match(self._pending)
            self._head_bytes += len(self._take(blank.end() if blank else 0))
        start = bytes(self._pending[:5]).lower()
        if not (b"http/".startswith(start) or b"icy".startswith(start[:3])):
            raise BadHttpMessage("the response does not begin with a status line")
        end = _END_OF_HEAD.search(self._pending, max(0, self._searched - 2))
        self._searched = len(self._pending)
        if self._head_bytes + (end.end() if end else len(self._pending)) > MAX_HEAD_BYTES:
            raise BadHttpMessage("the head of the response is too long")
        if end is None:
            return None
        self._head_bytes += end.end()
        self._searched = 0
        return self._start_body(*parse_head(self._take(end.end())))

    def _start_body(
        self, version: bytes, status: int, fields: dict[bytes, list[bytes]]
    ) -> bytes | None:
        if 100 <= status < 200:
            if status == 101:
                raise BadHttpMessage("the server speaks another protocol")
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise BadHttpMessage("too many interim responses")
            return b""
        framing = b""
        length = None if _is_chunked(fields) else content_length(fields)
        if status in _NO_BODY:
            self._step, self._left = ResponseRepair._pass_length, 0
        elif _is_chunked(fields):
            framing, self._step = b"Transfer-Encoding: chunked\r\n", ResponseRepair._read_chunk_size
        elif length is not None:
            framing = b"Content-Length: %d\r\n" % length
            self._step, self._left = ResponseRepair._pass_length, length
        else:
            self.reusable = False
            self._step = ResponseRepair._pass_all
        return _head(version, status, fields, framing)

    def _pass_all(self) -> bytes | None:
        return self._take(len(self._pending)) or None

    def _pass_length(self) -> bytes | None:
        if self._left:
            taken = self._take(self._left)
            self._left -= len(taken)
            return taken or None
        return self._finish(clean=not self._pending)

    def _finish(self, clean: bool) -> bytes:
        self.finished, self.reusable = True, self.reusable and clean
        self._step = ResponseRepair._drop_all
        return b""

    def _break(self) -> bytes:
        self.broken, self.reusable = True, False
        self._step = ResponseRepair._drop_all
        return b""

    def _drop_all(self) -> bytes | None:
        self._pending.clear()
        return None

    def _read_chunk_size(self) -> bytes | None:
        end = self._pending.find(b"\n", 0, _MAX_CHUNK_LINE)
        if end < 0:
            if len(self._pending) >= _MAX_CHUNK_LINE:
                return self._break()
            return None
        size = _CHUNK_SIZE.fullmatch(self._take(end + 1))
        if size is None:
            return self._break()
        self._left = int(size[1], 16)
        if not self._left:
            # What follows are trailers, which nobody reads.
            self._finish(clean=bytes(self._pending) in _CLEAN_END)
            return b"0\r\n\r\n"
        self._spare_chunks += self._left // _CHUNK_BYTES - 1
        if self._spare_chunks < 0:
            return self._break()
        self._step = ResponseRepair._pass_chunk
        return b"%x\r\n" % self._left

    def _pass_chunk(self) -> bytes | None:
        taken = self._take(self._left)
        self._left -= len(taken)
        if not self._left:
            self._step = ResponseRepair._end_chunk
        return taken or None

    def _end_chunk(self) -> bytes | None:
        if self._pending[:1] == b"\n":
            self._take(1)
        elif self._pending[:2] == b"\r\n":
            self._take(2)
        elif bytes(self._pending) in (b"", b"\r"):
            return None
        else:
            return self._break()
        self._step = ResponseRepair._read_chunk_size
        return b"\r\n"


def parse_head(head: bytes) -> tuple[bytes, int, dict[bytes, list[bytes]]]:
    """Return the version, the status and the header fields of a response, by names in lower case.

    Lines that are no fields are left out, and folded lines are joined.

    Raises:
        BadHttpMessage: there is no status line, or a field is too long.
    """
    first, *lines = re.split(rb"\r?\n", _FOLD.sub(b" ", head.rstrip(b"\r\n")))
    match = _STATUS_LINE.fullmatch(first)
    if match is None or len(first) > MAX_LINE_BYTES:
        raise BadHttpMessage("the response has no valid status line")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            continue
        value = value.strip(b" \t")
        if len(value) > MAX_LINE_BYTES:
            raise BadHttpMessage("a field of the head is too long")
        fields.setdefault(name.strip().lower(), []).append(value)
    version = b"1.1" if match[1] == b"1" and match[2] == b"1" else b"1.0"
    return version, int(match[3]), fields


def content_length(fields: dict[bytes, list[bytes]]) -> int | None:
    """Return the length that the head states; None if it states none that can be read.

    Raises:
        BadHttpMessage: it states different lengths.
    """
    stated = {
        part.strip() for value in fields.get(b"content-length", ()) for part in value.split(b",")
    }
    if not stated or not all(re.fullmatch(rb"[0-9]{1,18}", part) for part in stated):
        return None
    lengths = {int(part) for part in stated}
    if len(lengths) > 1:
        raise BadHttpMessage("the response has several lengths")
    return lengths.pop()


def _tokens(fields: dict[bytes, list[bytes]], name: bytes) -> set[bytes]:
    values = b",".join(fields.get(name, ())).lower()
    return {token.strip() for token in values.split(b",")}


def _is_chunked(fields: dict[bytes, list[bytes]]) -> bool:
    return b"chunked" in _tokens(fields, b"transfer-encoding")


def _head(version: bytes, status: int, fields: dict[bytes, list[bytes]], framing: bytes) -> bytes:
    """Return a head with the fields that a fetch reads, and with one statement of the length."""
    lines = [b"HTTP/%s %d -\r\n" % (version, status), framing]
    for name in sorted(_KEPT & fields.keys()):
        for value in fields[name]:
            lines.append(b"%s: %s\r\n" % (name, re.sub(rb"[\0\r]", b" ", value).strip()))
    for token in (b"close", b"keep-alive"):
        if token in _tokens(fields, b"connection"):
            lines.append(b"Connection: %s\r\n" % token)
            break
    return b"".join([*lines, b"\r\n"])


class RepairingProtocol(ResponseHandler):
    """The protocol of a connection, whose responses are repaired before they are parsed."""

    _repair: ResponseRepair | None = None

    def set_response_params(self, **params: Any) -> None:
        """Expect the response to a request."""
        self._repair = ResponseRepair()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Pass on the bytes of a response."""
        if self._repair is None or not data:
            super().data_received(data)
            return
        if self._repair.finished:
            # The server sends what nobody asked for.
            self._close_now()
            return
        try:
            repaired = self._repair.feed(data)
        except BadHttpMessage as error:
            self._close_now()
            self.set_exception(error)
            return
        if not self._repair.reusable:
            self.force_close()
        if repaired:
            super().data_received(repaired)
        if self._repair.broken:
            self._close_now()

    def _close_now(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()


class RepairingConnector(TCPConnector):
    """Makes connections whose responses are repaired."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no public way to choose the protocol.
        self._factory = partial(RepairingProtocol, loop=self._loop)  # type: ignore[assignment]
