"""Tar files, compressed or not."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from curation.media.files.compression import DAMAGE, compression_of, decompressed
from curation.media.files.location import escape

_READ_AHEAD_BYTES = 1 << 20
TAR_DAMAGE = (tarfile.TarError, EOFError, ValueError)
"""What reading a damaged tar may raise, besides `DAMAGE` of a compressed one."""


class Member(NamedTuple):
    """A member of a tar.

    Attributes:
        place: where it is within the tar, as locations write it: its name, and `#2` after it for the
            second member of that name.
        info: its header.
    """

    place: str
    info: tarfile.TarInfo


def open_tar(stream: Any) -> tarfile.TarFile:
    """Open a tar over a seekable stream; a compressed one is read from start to end.

    Raises:
        tarfile.TarError: it is not a tar.
        OSError: it cannot be read or decompressed.
    """
    codec = compression_of(stream)
    if codec:
        return tarfile.open(fileobj=decompressed(stream, codec), mode="r|")
    buffered = io.BufferedReader(stream, _READ_AHEAD_BYTES)
    return tarfile.open(fileobj=buffered, mode="r:")


def damage_of(tar: tarfile.TarFile) -> tuple[type[Exception], ...]:
    """Return the errors that mean damage; others come from the file system."""
    return TAR_DAMAGE if isinstance(tar.fileobj, io.BufferedReader) else (*TAR_DAMAGE, *DAMAGE)


def members(tar: tarfile.TarFile) -> Iterator[Member]:
    """Yield the members in their order."""
    seen: Counter[str] = Counter()
    while (info := tar.next()) is not None:
        # Otherwise tarfile keeps all headers.
        tar.members = []  # type: ignore[attr-defined]
        seen[info.name] += 1
        number = seen[info.name]
        yield Member(escape(info.name) + (f"#{number}" if number > 1 else ""), info)


def link_target(info: tarfile.TarInfo) -> str:
    """Return the name of the member that a link names."""
    if info.issym():
        return posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname))
    return info.linkname


def what_follows(tar: tarfile.TarFile) -> str | None:
    """Return what is wrong after the last member that was read; None for an end as it should be."""
    stream: Any = tar.fileobj
    if isinstance(stream, io.BufferedReader):
        stream.seek(tar.offset)
    is_first = True
    while block := stream.read(tarfile.BLOCKSIZE):
        if block.strip(b"\x00"):
            return "damaged" if is_first else "more bytes follow the end of the archive"
        is_first = False
    return None
