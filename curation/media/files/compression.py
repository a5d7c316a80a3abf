"""Compressed files, known by how they begin: names are often wrong about it."""

from __future__ import annotations

import lzma
from typing import Any

import pyarrow as pa

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
}
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
"""What follows `BZh` and a digit: the first block, or the end of an empty file."""
DAMAGE = (OSError, EOFError, lzma.LZMAError)
"""What reading a damaged stream may raise."""


def compression_of(stream: Any) -> str | None:
    """Return the compression of a seekable stream, which is left at its start; None for none."""
    head = bytes(stream.read(10))
    stream.seek(0)
    for magic, codec in _MAGIC.items():
        if head.startswith(magic) and (codec != "bz2" or head[4:].startswith(_BZIP2_BLOCKS)):
            return codec
    return None


def decompressed(stream: Any, codec: str | None) -> Any:
    """Return a stream of the decompressed bytes; one that is not compressed is returned as it is.

    Reading it raises one of `DAMAGE` where the compressed bytes are damaged or end too early.
    """
    if codec is None:
        return stream
    return lzma.LZMAFile(stream) if codec == "xz" else pa.CompressedInputStream(stream, codec)
