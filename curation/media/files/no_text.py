"""Files that are no texts, known by how they begin, and how a list is made of each."""

from __future__ import annotations

import tarfile

from curation.media.files.magic import is_picture

_UNPACK = "Unpack it"
_AS_CSV = "Export it as CSV"
_AS_PARQUET = "Write it as Parquet, and set `format: parquet`"
_OTHER_CODEC = (
    "is compressed in a form that is not read",
    "Decompress it, or compress it as gz, bz2, zst, lz4 or xz",
)
_KINDS: dict[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("is a zip archive or a workbook", "Unpack it, or export it as CSV"),
    b"7z\xbc\xaf\x27\x1c": ("is a 7-Zip archive", _UNPACK),
    b"Rar!\x1a\x07": ("is a RAR archive", _UNPACK),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("is a document of Microsoft Office", _AS_CSV),
    b"SQLite format 3\x00": ("is a database of SQLite", _AS_CSV),
    b"%PDF-": ("is a PDF", _AS_CSV),
    # A header of CSV may begin with PAR1.
    b"PAR1\x15": ("is a Parquet file", "Set `format: parquet`"),
    b"ARROW1\x00\x00": ("is an Arrow file", _AS_PARQUET),
    b"Obj\x01": ("is an Avro file", _AS_PARQUET),
    b"\x89HDF\r\n\x1a\n": ("is an HDF5 file", _AS_PARQUET),
    b"\x1f\x9d": _OTHER_CODEC,
    b"\x5d\x00\x00": _OTHER_CODEC,
    b"\x02\x21\x4c\x18": _OTHER_CODEC,
    b"\xff\x06\x00\x00sNaPpY": _OTHER_CODEC,
}
"""By the first bytes: what a file is, and how it is mended. The last ones: Z, lzma, old lz4, Snappy."""


def no_text(head: bytes) -> tuple[str, str] | None:
    """Return what a file is that begins with these bytes, and how a list is made of it; None if a text.

    Args:
        head: its first 512 bytes, or more.
    """
    if _is_tar(head):
        return "is a tar archive", _UNPACK
    if is_picture(head):
        return "is a picture", "Name the list in its place"
    return next((kind for start, kind in _KINDS.items() if head.startswith(start)), None)


def _is_tar(head: bytes) -> bool:
    # Old tars do not name their form, and a text may have the letters of its name: the sum counts.
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
