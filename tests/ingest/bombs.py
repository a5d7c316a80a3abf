"""Small files that ask for much: for each its format, and how it is written."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.files.thrift import Reader

MIB = 1 << 20
URL = "http://h.example/1"


class Bomb(NamedTuple):
    """A file.

    Attributes:
        format: of its source.
        write: writes it to a path.
        reason: what one of its rows, or the error about the file, says; None if all of it is read.
        rows: how many of its rows can be read besides, exactly.
    """

    format: str
    write: Callable[[Path], None]
    reason: str | None
    rows: int = 0


def packed(blocks: Iterable[bytes], path: Path, codec: str = "zstd") -> None:
    """Write blocks to a compressed file."""
    with pa.CompressedOutputStream(str(path), codec) as out:
        for block in blocks:
            out.write(block)


def _lines(*blocks: bytes, times: int = 1, codec: str = "zstd") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        packed((b for _ in range(times) for b in blocks), path, codec)

    return write


def parquet(**columns: pa.Array) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        table = pa.table(columns)
        pq.write_table(table, path, compression="zstd", write_statistics=False)

    return write


def repeated(entry: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([entry]))


def _entry(size: int, rows: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        parquet(url=repeated(URL, rows), caption=repeated("A" * size, rows))(path)

    return write


def _nested(values: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        column = pa.ListArray.from_arrays([0, values], pa.array(np.zeros(values, np.int64)))
        parquet(url=pa.array([URL]), more=column)(path)

    return write


def _wide_nulls(path: Path) -> None:
    column = pa.array([None] * 4, pa.binary(70 * MIB))
    parquet(url=pa.array([URL] * 4), caption=column)(path)


def _page(size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        column = pa.array([b"0" * size], pa.large_binary())
        table = pa.table({"url": pa.array([URL]), "caption": column})
        pq.write_table(
            table, path, compression="zstd", use_dictionary=False, write_statistics=False
        )

    return write


def many_lengths(encoding: str, count: int, second: bool = False) -> Callable[[Path], None]:
    """A column of 20 texts, whose page says that it has other numbers of lengths.

    Args:
        encoding: of the texts.
        count: of the lengths; all are zero.
        second: whether they are those that follow the first 20.
    """

    def write(path: Path) -> None:
        columns = {"url": [URL] * 20, "caption": ["u" * 50] * 20}
        required = pa.schema([pa.field(name, pa.string(), nullable=False) for name in columns])
        out = io.BytesIO()
        pq.write_table(
            pa.table(columns, required),
            out,
            compression="none",
            use_dictionary=False,
            column_encoding={"caption": encoding},
            write_statistics=False,
        )
        content = bytearray(out.getvalue())
        column = pq.read_metadata(io.BytesIO(content)).row_group(0).column(1)
        header = Reader(bytes(content[column.data_page_offset :]))
        header.struct()
        at = column.data_page_offset + header.at
        lengths = _zeros(20) * second + _zeros(count)
        content[at : at + len(lengths)] = lengths
        path.write_bytes(content)

    return write


def _zeros(count: int) -> bytes:
    """Zeros in DELTA_BINARY_PACKED: one block of a billion numbers, each of no bits."""
    return varint(1 << 30) + varint(1) + varint(count) + b"\0\0\0"


def _columns(path: Path) -> None:
    parquet(url=pa.array([URL]), **{f"c{i}": pa.array([1]) for i in range(2100)})(path)


def _footer(content: bytes, length: int | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        size = len(content) if length is None else length
        path.write_bytes(b"PAR1" + content + size.to_bytes(4, "little") + b"PAR1")

    return write


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def list_head(count: int) -> bytes:
    return b"\xfc" + varint(count)


NODE = b"\x48\x01a\x15\x02\x00"
DEEP_SCHEMA = b"\x15\x02\x19" + list_head(100_000) + NODE * 100_000 + b"\x00"
"""Nodes with one child each, in a footer that ends there."""
MANY_GROUPS = (
    b"\x15\x02\x19\x1c\x48\x01a\x00\x16\x00\x19" + list_head(2_000_000) + b"\x00" * 2_000_000
)
"""Row groups of one byte each."""


def _record(body: bytes) -> bytes:
    head = b"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Record-ID: <urn:uuid:1>\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"\r\n\r\n"


def _page_record(page: str, links: int, url: str = "") -> bytes:
    html = {"Links": [{"path": "IMG@/src", "url": f"{url}{i}"} for i in range(links)]}
    head = {"WARC-Target-URI": page}
    body = {"HTTP-Response-Metadata": {"HTML-Metadata": html}}
    text = {"Envelope": {"WARC-Header-Metadata": head, "Payload-Metadata": body}}
    return _record(json.dumps(text).encode())


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """The header of a member."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def member(name: str, content: bytes = b"") -> bytes:
    """A member."""
    return header(name, len(content)) + content + b"\0" * (-len(content) % 512)


END = b"\0" * 1024
WIDE = b"a" * 65_000 + "\U0001f41f".encode()
"""A text that takes four times its bytes in memory."""
AFTER_TEXTS = member("a.jpg", b"\xff\xd8\xff") + END
AFTER = member("z.jpg", b"\xff\xd8\xff") + END


def _extended(kind: bytes, first: bytes, size: int) -> Iterator[bytes]:
    yield header("././@LongLink", size, kind) + first.ljust(512, b"a")
    yield from repeat(b"a" * MIB, size // MIB - 1)
    yield b"a" * (MIB - 512) + member("a.jpg", b"\xff\xd8\xff") + AFTER


def _sparse() -> Iterator[bytes]:
    block = bytearray(header("a.jpg", 512, b"S"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = b"00000000001\0" * 42 + b"\1" + b"\0" * 7
    yield bytes(block)
    yield from repeat(more * 2048, 200)
    yield b"\0" * 512 + b"x" * 512 + AFTER


def _members(count: int) -> Iterator[bytes]:
    for start in range(0, count, 1000):
        yield b"".join(header(f"{i:06d}.zz", 0) for i in range(start, start + 1000))
    yield END


def _wide_names() -> Iterator[bytes]:
    """Members whose names take four bytes for each character."""
    for number in range(4_100):
        info = tarfile.TarInfo(f"{number:06d}{'a.' * 2000}\U0001f41f.jpg")
        yield info.tobuf(tarfile.PAX_FORMAT)
    yield END


def _gnu_size(size: int) -> bytes:
    block = bytearray(header("a.txt", 0))
    block[124:136] = b"\x80" + size.to_bytes(11, "big") if size >= 0 else b"\xff" * 11 + b"\x00"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _tar(blocks: Callable[[], Iterable[bytes]]) -> Callable[[Path], None]:
    return lambda path: packed(blocks(), path)


def xz_of_window(path: Path) -> None:
    """An xz file whose header asks for a window of 4 GiB."""
    whole = bytearray(lzma.compress(f"{URL}\n".encode()))
    size = (whole[12] + 1) * 4
    place = whole.index(b"\x21\x01", 12) + 2
    whole[place] = 40
    whole[12 + size - 4 : 12 + size] = zlib.crc32(whole[12 : 12 + size - 4]).to_bytes(4, "little")
    path.write_bytes(bytes(whole))


def zstd_of_window(path: Path) -> None:
    """A zstd file whose header asks for a window of 1 GiB."""
    text = f"{URL}\n".encode()
    block = (len(text) << 3 | 1).to_bytes(3, "little") + text
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([20 << 3]) + block)


OPENED = b'a",x"y,"\n'
"""A line that opens a quote, and also goes on in an open one: rows of such lines fail one by one."""
SLOW = (
    *("many members", "a row of many lines", "a large record", "one large entry", "many fields"),
    *("rows that fail one by one", "long objects", "nothing but lines", "many empty lines"),
    *("a long name", "a large line", "a large page", "a line without an end", "a repeated entry"),
    "a sample of many texts",
)
"""What `make nightly` alone reads."""
BOMBS: dict[str, Bomb] = {
    "one large entry": Bomb("parquet", _entry(80 * MIB, 1_000_000), "memory to read"),
    "a repeated entry": Bomb("parquet", _entry(512 * 1024, 2000), "characters are more than"),
    "a long nested row": Bomb("parquet", _nested(20_000_000), "memory to read"),
    "wide nulls": Bomb("parquet", _wide_nulls, "memory to read"),
    "a large page": Bomb("parquet", _page(230 * MIB), "a page has"),
    "a large value": Bomb("parquet", _page(60 * MIB), "a value of"),
    "many lengths": Bomb(
        "parquet", many_lengths("DELTA_LENGTH_BYTE_ARRAY", 1 << 28), "of 20 values has 268,435,456"
    ),
    "many lengths of beginnings": Bomb(
        "parquet", many_lengths("DELTA_BYTE_ARRAY", 1 << 28), "of 20 values has 268,435,456"
    ),
    "many lengths of ends": Bomb(
        "parquet", many_lengths("DELTA_BYTE_ARRAY", 1 << 28, True), "of 20 values has 268,435,456"
    ),
    "many columns": Bomb("parquet", _columns, "more than 2,000 columns"),
    "a large footer": Bomb("parquet", _footer(b"", 1 << 31), "its footer has"),
    "a deep schema": Bomb("parquet", _footer(DEEP_SCHEMA), "nested in more"),
    "many row groups": Bomb("parquet", _footer(MANY_GROUPS), "too many structures"),
    "many empty columns": Bomb(
        "csv", _lines(b"," * (3 * MIB) + b"url,caption\n"), "columns, more than 2,000"
    ),
    "many empty lines": Bomb(
        "csv", _lines(b'url,caption\n"q",1\n', b"\n" * MIB, f"{URL},c\n".encode()), None, 2
    ),
    "a row of many lines": Bomb(
        "csv", _lines(b'url,caption\n"', b'","\n' * 80_000), "a row has more than"
    ),
    "rows that fail one by one": Bomb(
        "csv", _lines(b"url,caption\n", OPENED * 60_000), "too many of the file were read again"
    ),
    "a line without an end": Bomb(
        "csv", _lines(b"url,caption\n", *[b"a" * MIB] * 200), "field larger than"
    ),
    "long objects": Bomb(
        "jsonl",
        _lines(b'{"url":"%s","caption":"' % URL.encode(), b"A" * 3 * MIB, b'"}\n', times=80),
        "metadata of more than",
        80,
    ),
    "objects of small objects": Bomb(
        "jsonl",
        _lines(b'{"url":"u"}\n', *[b'{"url":[', b"{}," * MIB, b"{}]}\n"] * 20),
        "holds more than 500,000 values",
        1,
    ),
    "a large line": Bomb(
        "jsonl", _lines(b'{"url":1}\n{"url":"', *[b"a" * MIB] * 250), "too long", 1
    ),
    "nothing but zeros": Bomb("txt", _lines(*[b"0" * MIB] * 300), "times their size"),
    "nothing but lines": Bomb("txt", _lines(b"\n" * 5 * MIB), "too many for its size"),
    "a window of 4 GiB": Bomb("txt", xz_of_window, "Memory usage limit"),
    "a window of 1 GiB": Bomb("txt", zstd_of_window, "too much memory"),
    "a long URL of a page": Bomb(
        "wat", lambda p: packed([_page_record(f"{URL}/{'a' * MIB}", 1100)], p), "URL of the page"
    ),
    "a long base of a page": Bomb(
        "wat", lambda p: packed([_page_record(f"{URL}/{'a' * 8000}", 20_000)], p), "images", 10_000
    ),
    "many small objects": Bomb(
        "wat",
        lambda p: packed([_record(b'{"Envelope":[' + b"{}," * 5 * MIB + b"{}]}")], p),
        "values",
    ),
    "a large record": Bomb(
        "wat", lambda p: packed([_record(b"a" * 200 * MIB)], p), "larger than 16 MiB"
    ),
    "many fields": Bomb(
        "wat", lambda p: packed([b"WARC/1.0\r\n", *[b"X: a\r\n" * MIB] * 40], p), "header has more"
    ),
    "a long name": Bomb(
        "webdataset", _tar(lambda: _extended(b"L", b"", 200 * MIB)), "extended header", 1
    ),
    "a long pax header": Bomb(
        "webdataset",
        _tar(lambda: _extended(b"x", b"209715200 c=", 200 * MIB)),
        "extended header",
        1,
    ),
    "many pax headers": Bomb(
        "webdataset",
        _tar(lambda: [header("x", 512, b"x") + b"9 path=a\n".ljust(512, b"\0")] * 5000),
        "headers stand before",
    ),
    "a sparse map": Bomb("webdataset", _tar(_sparse), "it is a sparse file", 1),
    "many members": Bomb(
        "webdataset", _tar(lambda: _members(210_000)), "more than 200,000 members", 200_000
    ),
    "long names of wide characters": Bomb("webdataset", _tar(_wide_names), "bytes of names", 1045),
    "a sample of many texts": Bomb(
        "webdataset",
        _tar(lambda: [*(member(f"a.{n}.txt", WIDE) for n in range(1600)), AFTER_TEXTS]),
        "texts of the sample have more",
        1,
    ),
    "a member without an end": Bomb(
        "webdataset", _tar(lambda: [_gnu_size(1 << 62), b"a" * 2048]), "unexpected end"
    ),
    "a negative size": Bomb("webdataset", _tar(lambda: [_gnu_size(-512) + AFTER]), "negative size"),
}


def write_bomb(bomb: Bomb, folder: Path) -> Path:
    """Write a bomb into a folder, and return its path, which says nothing: messages quote it."""
    endings = {"parquet": "parquet", "webdataset": "tar", "huggingface": "parquet", "coco": "json"}
    ending = endings.get(bomb.format, bomb.format)
    path = folder / f"b.{ending}"
    bomb.write(path)
    return path
