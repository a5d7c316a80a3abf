"""Lists that are cut off, or in a form that is not read: what can be read is, and messages say why."""

from __future__ import annotations

import gzip
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
from curation.stages.ingest.formats import lines
from curation.stages.ingest.sources import source_file
from tests.ingest.helpers import pairs, source

CSV = b"url,caption\nhttp://a.example/1,c\n"


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
