"""Compressed files, known by how they begin: names are often wrong about it."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from curation.media.files.limits import DECOMPRESSOR_BYTES, EXPANSION_BYTES, EXPANSION_RATIO
from curation.media.files.location import held_bytes, limit_reads

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
}
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
"""What follows `BZh` and a digit: the first block, or the end of an empty file."""
_SKIPPED = b"\x2a\x4d\x18"
"""With one byte of 0x50 to 0x5f before, the head of a frame without content, of zstd or lz4."""
_SKIPPED_HEAD = 8
_MAX_SKIPPED = 16
"""Such frames before the first with content: pzstd writes one, programs a few for metadata."""
_BLOCK_BYTES = 1 << 16
_BUFFER_BYTES = 10 << 10
"""What is decompressed together where rows are read one by one: damage costs all of it."""
_GZIP_WINDOW = 31
"""Of zlib: the largest window, and the head and end of gzip around it."""


class _GzipDecoder:
    """zlib's decoder of one stream, as those of bzip2 and xz are."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, content: bytes, size: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + content, size)


_DECODERS: dict[str, Callable[[], Any]] = {
    "bz2": bz2.BZ2Decompressor,
    "gzip": _GzipDecoder,
    "xz": partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=DECOMPRESSOR_BYTES),
}
"""Decoders of one stream each, of compressions that Arrow does not read as they are."""
DAMAGE = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""What reading a damaged stream may raise. `FileSystemError` is one of them, and no damage."""


class ExpansionError(OSError):
    """A stream that expands to more than a file of its size may."""


def compression_of(stream: Any) -> str | None:
    """Return the compression of a seekable stream, which is left at its start; None for none."""
    head = _head(stream)
    stream.seek(0)
    for magic, codec in _MAGIC.items():
        if head.startswith(magic) and (codec != "bz2" or head[4:].startswith(_BZIP2_BLOCKS)):
            return codec
    return None


def _head(stream: Any) -> bytes:
    """Return the first bytes after the frames without content."""
    start = 0
    for _ in range(_MAX_SKIPPED):
        head = bytes(stream.read(10))
        if len(head) < _SKIPPED_HEAD or head[0] >> 4 != 5 or head[1:4] != _SKIPPED:
            break
        start += _SKIPPED_HEAD + int.from_bytes(head[4:_SKIPPED_HEAD], "little")
        stream.seek(start)
    return head


def decompressed(stream: Any, codec: str | None) -> Any:
    """Return a stream of the decompressed bytes; one that is not compressed is returned itself.

    Reading it raises one of `DAMAGE` where the compressed bytes are damaged, end too early, or expand
    to more than `EXPANSION_BYTES` and `EXPANSION_RATIO` times their size. For a local file with holes,
    which takes little of its disk for terabytes of zeros, the bytes that are read are limited so, too.
    """
    _limit_holes(stream)
    if codec is None:
        return stream
    decoder = _DECODERS.get(codec)
    return _Limited(
        stream, _Streams(stream, decoder) if decoder else pa.CompressedInputStream(stream, codec)
    )


def buffered(stream: Any) -> io.BufferedReader:
    """Return a stream with a buffer over one that has only `read`."""
    return io.BufferedReader(_Raw(stream), _BUFFER_BYTES)


def _limit_holes(stream: Any) -> None:
    size = stream.size() if isinstance(stream, pa.NativeFile) else 0
    held = held_bytes(stream, size)
    if held < size:
        limit_reads(stream, max(EXPANSION_BYTES, EXPANSION_RATIO * held))


class _Limited:
    """A decompressed stream that ends with an error where it expands too far."""

    def __init__(self, compressed: Any, stream: Any) -> None:
        self._compressed, self._stream = compressed, stream
        self._count = 0
        self.close = stream.close

    def read(self, size: int) -> bytes:
        content: bytes = self._stream.read(size)
        self._count += len(content)
        if self._count > EXPANSION_BYTES:
            compressed = self._compressed.tell()
            if self._count > EXPANSION_RATIO * compressed:
                raise ExpansionError(
                    f"{compressed:,} compressed bytes expand to more than {self._count:,}, over "
                    f"{EXPANSION_RATIO} times their size"
                )
        return content


class _Streams:
    """The content of a file of one compressed stream after another, by a decoder of Python.

    `LZMAFile` takes any memory that a file asks for. Arrow fails at an empty stream of bzip2, and at
    NULs after the last one of gzip, as tapes and blocks of a device leave them.
    """

    def __init__(self, stream: Any, new_decoder: Callable[[], Any]) -> None:
        self._stream, self._new_decoder = stream, new_decoder
        self._decoder: Any = None

    def read(self, size: int) -> bytes:
        while True:
            content = self._next_input()
            if self._decoder is None:
                return b""
            content = self._decoder.decompress(content, size)
            if content:
                return bytes(content)

    def _next_input(self) -> bytes:
        """Return compressed bytes for the decoder: a new one for each stream, None at the end."""
        if self._decoder is not None and not self._decoder.eof:
            if not self._decoder.needs_input:
                return b""
            content: bytes = self._stream.read(_BLOCK_BYTES)
            if not content:
                raise EOFError("it ends in the middle of a stream")
            return content
        content = self._decoder.unused_data if self._decoder else b""
        # Streams may be padded with NUL.
        while not (content := content.lstrip(b"\x00")):
            content = self._stream.read(_BLOCK_BYTES)
            if not content:
                self._decoder = None
                return b""
        self._decoder = self._new_decoder()
        return content

    def close(self) -> None:
        self._decoder = None


class _Raw(io.RawIOBase):
    """What `BufferedReader` needs of a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
