"""Tar files, compressed or not. Headers are read within limits, however large they say they are."""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from curation.media.files.compression import DAMAGE, buffered, compression_of, decompressed
from curation.media.files.limits import (
    MEMBER_HEADER_BYTES,
    MEMBER_HEADERS,
    MEMBER_NAME_BYTES,
    MEMBERS,
    PADDING_BYTES,
    PATH_BYTES,
)
from curation.media.files.location import escape

_READ_AHEAD_BYTES = 1 << 20
TAR_DAMAGE = (tarfile.TarError, ValueError, OverflowError, *DAMAGE)
"""What reading a damaged tar may raise. `FileSystemError` is one of them, and no damage."""
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED_TYPES = (*_PAX_TYPES, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX_RECORD = re.compile(rb"([0-9]{1,20}) ([^=\n]{1,1024})=")
_SPARSE = "it is a sparse file"


class Member(NamedTuple):
    """A member of a tar.

    Attributes:
        place: where it is within the tar, as locations write it: its name, and `#2` after it for the
            second member of that name.
        info: its header.
        problem: why it must not be read; empty if it may.
    """

    place: str
    info: tarfile.TarInfo
    problem: str = ""


class _Info(tarfile.TarInfo):
    """A header that takes little memory and time to read, whatever it says.

    `tarfile` calls `_proc_member` for each header, of whatever kind.
    """

    problem = ""

    def _proc_member(self, tar: _Tar) -> tarfile.TarInfo:
        if self.size < 0:
            raise tarfile.ReadError("a member has a negative size")
        if self.type == tarfile.GNUTYPE_SPARSE:
            return self._skip_sparse(tar)
        if self.type not in _EXTENDED_TYPES:
            tar.extended = 0
            return super()._proc_member(tar)  # type: ignore[misc,no-any-return]
        tar.extended += 1
        if tar.extended > MEMBER_HEADERS:
            raise tarfile.ReadError(f"more than {MEMBER_HEADERS} headers stand before one member")
        if self.size > MEMBER_HEADER_BYTES:
            return self._skip_header(tar)
        if self.type in _PAX_TYPES:
            return self._apply_pax(tar)
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]

    def _next(self, tar: _Tar) -> _Info:
        """Return the member that an extended header belongs to."""
        try:
            info = _Info.fromtarfile(tar)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"after an extended header: {error}") from None
        info.offset = self.offset
        return info

    def _skip_header(self, tar: _Tar) -> _Info:
        stream: Any = tar.fileobj
        stream.seek(stream.tell() + _padded(self.size))
        info = self._next(tar)
        info.problem = (
            f"an extended header of {self.size:,} bytes, more than {MEMBER_HEADER_BYTES:,}"
        )
        return info

    def _apply_pax(self, tar: _Tar) -> _Info:
        stream: Any = tar.fileobj
        records = _pax_records(stream.read(_padded(self.size))[: self.size])
        is_sparse = any(name.startswith("GNU.sparse.") for name in records)
        used = {name: text for name, text in records.items() if name in tarfile.PAX_FIELDS}
        known = {**tar.pax_headers, **used}
        if self.type == tarfile.XGLTYPE:
            tar.pax_headers = known
            return self._next(tar)
        info = self._next(tar)
        info._apply_pax_info(known, tar.encoding, tar.errors)  # type: ignore[attr-defined]
        if info.size < 0:
            raise tarfile.ReadError("a member has a negative size")
        if "size" in used and info.isreg():
            tar.offset = info.offset_data + _padded(info.size)
        info.problem = info.problem or (_SPARSE if is_sparse else "")
        return info

    def _skip_sparse(self, tar: _Tar) -> _Info:
        stream: Any = tar.fileobj
        _, is_extended, _ = self._sparse_structs  # type: ignore[attr-defined]
        while is_extended:
            block = stream.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it ends in the middle of a header")
            is_extended = bool(block[504])
        tar.extended = 0
        self.offset_data = stream.tell()
        tar.offset = self.offset_data + _padded(self.size)
        self.problem = _SPARSE
        return self


class _Tar(tarfile.TarFile):
    """A tar with such headers.

    Attributes:
        extended: extended headers since the last member.
    """

    tarinfo = _Info
    extended = 0


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _pax_records(content: bytes) -> dict[str, str]:
    """Return the records of a pax header, each a length, a space, name, `=`, value and a line end.

    Raises:
        tarfile.ReadError: it holds something else.
    """
    records: dict[str, str] = {}
    at = 0
    while at < len(content) and content[at]:
        match = _PAX_RECORD.match(content, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content):
            raise tarfile.ReadError("a pax header is damaged")
        name = match[2].decode("utf-8", "surrogateescape")
        records[name] = content[match.end() : end - 1].decode("utf-8", "surrogateescape")
        at = end
    return records


def open_tar(stream: Any) -> tarfile.TarFile:
    """Open a tar over a seekable stream; a compressed one is read from start to end.

    Raises:
        tarfile.TarError: it is not a tar.
        OSError: it cannot be read or decompressed.
    """
    codec = compression_of(stream)
    seekable: Any = (
        _Forward(decompressed(stream, codec))
        if codec
        else io.BufferedReader(stream, _READ_AHEAD_BYTES)
    )
    return _Tar.open(fileobj=seekable, mode="r:")


class _Forward:
    """A stream that is read and skipped forward. That of `tarfile` never ends to skip past its end."""

    def __init__(self, stream: Any) -> None:
        self._stream = buffered(stream)
        self._position = 0
        self.close = self._stream.close

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._position += len(content)
        return content

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.StreamError("a compressed tar is read from start to end")
        while self._position < position:
            if not self.read(min(position - self._position, _READ_AHEAD_BYTES)):
                break
        return self._position

    def tell(self) -> int:
        return self._position


def members(tar: tarfile.TarFile) -> Iterator[Member]:
    """Yield the members in their order.

    Raises:
        tarfile.ReadError: the tar is damaged, or has more members than the limits allow.
    """
    seen: Counter[str] = Counter()
    count, names = 0, 0
    while (info := tar.next()) is not None:
        # Otherwise tarfile keeps all headers.
        tar.members = []  # type: ignore[attr-defined]
        count += 1
        problem: str = getattr(info, "problem", "")
        if len(info.name) > PATH_BYTES or len(info.linkname) > PATH_BYTES:
            info.name, info.linkname = info.name[:PATH_BYTES], info.linkname[:PATH_BYTES]
            problem = problem or f"its name has more than {PATH_BYTES:,} characters"
        names += _memory_of(info.name) + _memory_of(info.linkname)
        if count > MEMBERS or names > MEMBER_NAME_BYTES:
            limits = f"{MEMBERS:,} members or {MEMBER_NAME_BYTES:,} bytes of names"
            raise tarfile.ReadError(f"it has more than {limits}")
        seen[info.name] += 1
        number = seen[info.name]
        place = escape(info.name) + (f"#{number}" if number > 1 else "")
        yield Member(place, info, problem)


def _memory_of(name: str) -> int:
    """Return the bytes that the characters of a name take in memory."""
    if name.isascii():
        return len(name)
    return len(name) * (2 if max(name) <= "\uffff" else 4)


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
    zeros = 0
    while block := stream.read(tarfile.BLOCKSIZE):
        if block.strip(b"\x00"):
            return "more bytes follow the end of the archive" if zeros else "damaged"
        zeros += len(block)
        if zeros > PADDING_BYTES:
            # A download that reserves its place leaves them, and gigabytes of them take hours.
            return f"more than {PADDING_BYTES:,} zeros follow: its download was not finished"
    return None
