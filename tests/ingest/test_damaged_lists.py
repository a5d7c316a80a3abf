"""Lists that are cut off, or in a form that is not read: what can be read is, and messages say why."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from curation.errors import RecipeError, StoreError
from curation.media.files import location
from curation.media.files.compression import compression_of
from curation.stages.ingest.formats import lines
from curation.stages.ingest.sources import source_file
from tests.ingest.helpers import jpeg, pairs, source, tar_of

CSV = b"url,caption\nhttp://a.example/1,c\n"


JUNK = bytes(range(256)) * 4


def parquet() -> bytes:
    """A Parquet file."""
    out = io.BytesIO()
    pq.write_table(pa.table({"url": ["http://a.example/1"]}), out)
    return out.getvalue()


def arrow() -> bytes:
    """An Arrow file, as Feather and datasets write it."""
    out = io.BytesIO()
    rows = pa.table({"url": ["http://a.example/1"]})
    with pa.ipc.new_file(out, rows.schema) as writer:
        writer.write_table(rows)
    return out.getvalue()


def old_tar() -> bytes:
    """A tar in the form of Unix V7, which has no name."""
    content = bytearray(tar_of({"l.csv": b"id," + CSV}))
    content[257:265] = bytes(8)
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def compressed(content: bytes, codec: str) -> bytes:
    """Content in a format of compressed files."""
    if codec == "xz":
        return lzma.compress(content)
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, codec) as stream:
        stream.write(content)
    return bytes(out.getvalue())


@pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd", "lz4", "xz"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
@pytest.mark.parametrize("damage", ["it is cut off", "bytes follow its end"])
def test_rows_before_the_damage_of_a_compressed_list_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, kind: str, damage: str
) -> None:
    # A line that two reads share.
    monkeypatch.setattr(lines, "BLOCK_BYTES", 50_000)
    draw = random.Random(1)
    urls = [f"http://a.example/{draw.random()}{draw.random()}" for _ in range(9000)]
    content = {
        "csv": "url,caption\n" + "".join(f'{url},"a"\n' for url in urls),
        "jsonl": "".join(json.dumps({"url": url, "caption": "a"}) + "\n" for url in urls),
        "txt": "".join(f"{url}\n" for url in urls),
    }[kind].encode()
    if codec in ("bz2", "zstd"):
        # What their blocks hold is known as a whole: a file of two parts, the second damaged.
        half = content.index(b"\n", len(content) // 2) + 1
        whole = compressed(content[:half], codec)
        cut = compressed(content[half:], codec)[:60]
    else:
        whole = compressed(content, codec)
        cut = b""
        if damage == "it is cut off":
            whole = whole[: len(whole) * 3 // 4]
    if damage == "bytes follow its end":
        cut = b"junk" * 9
    (tmp_path / f"l.{kind}").write_bytes(whole + cut)
    columns = {} if kind == "txt" else {"url": "url", "caption": "caption"}
    spec = source(tmp_path / f"l.{kind}", format=kind, columns=columns)
    *rows, bad = sorted(pairs(tmp_path / "store", spec), key=lambda row: row["reason"] or "")
    assert {row["reason"] for row in rows} == {None}
    read = {row["url"] for row in rows}
    assert read == set(urls[: len(read)]) and len(read) == len(rows) > 4000
    assert "is damaged" in bad["metadata"] and f"after {len(rows):,} rows" in bad["metadata"]


@pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd", "lz4", "xz"])
def test_lists_that_were_joined_are_read_also_if_one_is_empty(tmp_path: Path, codec: str) -> None:
    """As by `cat part-*.bz2`: a program that writes parts leaves empty ones."""
    lines_of = [[], [1], [], [], [2, 3], []]
    contents = ("".join(f"http://a.example/{n}\n" for n in part).encode() for part in lines_of)
    (tmp_path / "l.txt").write_bytes(b"".join(compressed(c, codec) for c in contents))
    rows = pairs(tmp_path / "store", source(tmp_path / "l.txt", format="txt", columns={}))
    assert [(row["url"][-1], row["reason"]) for row in rows] == [(n, None) for n in "123"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14\x00", "is a zip archive or a workbook. Unpack it"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04" + JUNK, "is a 7-Zip archive. Unpack it"),
        (b"Rar!\x1a\x07\x01\x00" + JUNK, "is a RAR archive. Unpack it"),
        (tar_of({"l.csv": b"id," + CSV}), "is a tar archive. Unpack it"),
        (old_tar(), "is a tar archive. Unpack it"),
        (tar_of({"l.csv": b"id," + CSV}, "w:gz"), "is a tar archive. Unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + JUNK, "is a document of .*Export it as CSV"),
        (b"SQLite format 3\x00" + JUNK, "is a database of SQLite. Export it as CSV"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF"),
        (parquet(), "is a Parquet file. Set `format: parquet`"),
        (arrow(), "is an Arrow file. Write it as Parquet"),
        (b"Obj\x01\x04\x14avro.codec" + JUNK, "is an Avro file. Write it as Parquet"),
        (b"\x89HDF\r\n\x1a\n" + JUNK, "is an HDF5 file. Write it as Parquet"),
        (jpeg(3), "is a picture. Name the list"),
        (lzma.compress(CSV, lzma.FORMAT_ALONE), "in a form that is not read. Decompress it"),
        (b"\x1f\x9d\x90" + JUNK, "in a form that is not read. Decompress it"),
        (b"\x02\x21\x4c\x18" + JUNK, "in a form that is not read. Decompress it"),
        (b"\xff\x06\x00\x00sNaPpY" + JUNK, "in a form that is not read. Decompress it"),
        (gzip.compress(gzip.compress(CSV, mtime=0), mtime=0), "is compressed twice. Decompress it"),
    ],
)
def test_a_file_that_is_no_text_says_what_it_is(
    tmp_path: Path, kind: str, content: bytes, message: str
) -> None:
    (tmp_path / f"l.{kind}").write_bytes(content)
    columns = {} if kind == "txt" else {"url": "url", "caption": "caption"}
    with pytest.raises(StoreError, match=message):
        pairs(tmp_path / "store", source(tmp_path / f"l.{kind}", format=kind, columns=columns))


def test_a_text_with_the_letters_of_a_tar_is_a_list(tmp_path: Path) -> None:
    """Tars have `ustar` at this place."""
    start = CSV + b"http://a.example/2,"
    content = start + b"x" * (256 - len(start)) + b"mustard\n"
    assert content.index(b"ustar") == 257
    (tmp_path / "l.csv").write_bytes(content)
    rows = pairs(tmp_path / "store", source(tmp_path / "l.csv", format="csv"))
    assert [row["reason"] for row in rows] == [None, None]


@pytest.mark.parametrize("codec", ["gzip", "bz2", "xz"])
@pytest.mark.parametrize("form", ["csv", "webdataset", "coco"])
def test_nul_bytes_after_a_compressed_file_are_passed(
    tmp_path: Path, codec: str, form: str
) -> None:
    """As tapes and devices pad a file to whole blocks."""
    content = {
        "csv": CSV,
        "webdataset": tar_of({"1.jpg": jpeg(1), "1.txt": b"c"}),
        "coco": b'{"images": [{"file_name": "1.jpg", "caption": "c"}]}',
    }[form]
    path = tmp_path / "l.list"
    path.write_bytes(compressed(content, codec) + bytes(70_000))
    columns = {"columns": {"caption": "caption"}} if form == "coco" else {}
    (row,) = pairs(tmp_path / "store", source(path, format=form, **columns))
    assert (row["caption"], row["reason"]) == ("c", None)


WITHOUT_CONTENT = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("form", ["csv", "webdataset"])
def test_frames_without_content_are_passed(tmp_path: Path, codec: str, form: str) -> None:
    """pzstd writes one before each part, and other programs a table at the end."""
    if form == "csv":
        parts = [CSV, b"http://a.example/2,d\n"]
    else:
        whole = tar_of({"1.jpg": jpeg(1), "1.txt": b"c", "2.jpg": jpeg(2), "2.txt": b"d"})
        parts = [whole[:700], whole[700:]]
    packed = [WITHOUT_CONTENT + compressed(part, codec) for part in parts]
    path = tmp_path / "l.list"
    path.write_bytes(WITHOUT_CONTENT.join(packed) + WITHOUT_CONTENT * 3)
    rows = pairs(tmp_path / "store", source(path, format=form))
    assert [(row["caption"], row["reason"]) for row in rows] == [("c", None), ("d", None)]
    (tmp_path / "other").write_bytes(WITHOUT_CONTENT * 40)
    with (tmp_path / "other").open("rb") as stream:
        assert compression_of(stream) is None and stream.tell() == 0


def test_a_header_that_is_not_utf8_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"url,caption,caf\xe9\nhttp://a.example/1,x,y\n")
    with pytest.raises(
        RecipeError, match=r"not UTF-8 \(byte 0xe9\)\)\. Convert .* iconv -f CP1252"
    ):
        pairs(tmp_path / "store", source(tmp_path / "l.csv", format="csv"))


class _Keys(encryption.KmsClient):  # type: ignore[misc]
    """Keeps keys as they are."""

    def __init__(self, connection: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, name: str) -> str:
        return key.hex()

    def unwrap_key(self, key: str, name: str) -> bytes:
        return bytes.fromhex(key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_parquet_file_says_so(tmp_path: Path, plaintext_footer: bool) -> None:
    properties = encryption.CryptoFactory(_Keys).file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration(
            "footer", column_keys={"column": ["url"]}, plaintext_footer=plaintext_footer
        ),
    )
    content = pa.table({"url": ["http://a.example/1"], "caption": ["c"]})
    path = tmp_path / "l.parquet"
    with pq.ParquetWriter(path, content.schema, encryption_properties=properties) as writer:
        writer.write_table(content)
    with pytest.raises(StoreError, match="it is encrypted; write it without encryption"):
        pairs(tmp_path / "store", source(path))


def test_a_list_that_shrinks_while_it_is_read_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 5000)
    content = "".join(
        f"http://a.example/{random.Random(n).random()}\n" for n in range(5000)
    ).encode()
    path = tmp_path / "l.txt.gz"
    path.write_bytes(compressed(content, "gzip")[:-9])
    opened, count = location.open_local, 0

    def shrinking(name: str, follow_links: bool = True) -> pa.NativeFile:
        nonlocal count
        count += 1
        if count > 1:
            path.write_bytes(compressed(content[:1000], "gzip"))
        return opened(name, follow_links)

    monkeypatch.setattr(source_file, "open_local", shrinking)
    rows = pairs(tmp_path / "store", source(path, format="txt", columns={}))
    assert count > 1 and [row["reason"] for row in rows].count("bad_row") == 1
    assert {row["url"] for row in rows if not row["reason"]} <= set(content.decode().split("\n"))
