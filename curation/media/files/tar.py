"""Tar files, compressed or not."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pyarrow as pa

_READ_AHEAD = 1 << 20


def member_name(member: tarfile.TarInfo) -> str:
    """Return the name of a member as locations have it."""
    return member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_compressed(name: str) -> bool:
    """Whether a tar of this name is compressed."""
    return name.endswith((".gz", ".tgz"))


def open_tar(stream: Any, name: str) -> tarfile.TarFile:
    """Open a tar over a seekable stream; a compressed one is read through.

    Raises:
        tarfile.TarError, OSError: it is no tar.
    """
    if is_compressed(name):
        stream = pa.CompressedInputStream(stream, "gzip")
        return tarfile.open(fileobj=stream, mode="r|")
    buffered = io.BufferedReader(stream, _READ_AHEAD)
    return tarfile.open(fileobj=buffered, mode="r:")
