"""Tar files, compressed or not."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pyarrow as pa

_READ_AHEAD_BYTES = 1 << 20


def member_name(member: tarfile.TarInfo) -> str:
    """Return the name of a member as locations write it: valid UTF-8."""
    return member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_compressed(name: str) -> bool:
    """Whether a tar of this name is compressed."""
    return name.endswith((".gz", ".tgz"))


def open_tar(stream: Any, name: str) -> tarfile.TarFile:
    """Open a tar over a seekable stream; a compressed one is read from start to end.

    Raises:
        tarfile.TarError: it is not a tar.
        OSError: it cannot be read or decompressed.
    """
    if is_compressed(name):
        stream = pa.CompressedInputStream(stream, "gzip")
        return tarfile.open(fileobj=stream, mode="r|")
    buffered = io.BufferedReader(stream, _READ_AHEAD_BYTES)
    return tarfile.open(fileobj=buffered, mode="r:")
