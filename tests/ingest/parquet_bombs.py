"""Small Parquet files whose values ask for much: as Python values, as text, or again and again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.files.thrift import Reader
from tests.ingest.bombs import MIB, URL, Bomb, list_head, parquet, repeated, varint

Write = Callable[[Path], None]
FISH = "\U0001f41f"
"""A character that makes each character of a text take four bytes in memory."""


def _lists(values: pa.Array, rows: int) -> Write:
    """A column of lists, which have some values together."""

    def write(path: Path) -> None:
        ends = np.linspace(0, len(values), rows + 1).astype(np.int32)
        more = pa.ListArray.from_arrays(pa.array(ends), values)
        parquet(url=pa.array([URL] * rows), more=more)(path)

    return write


def _objects(depth: int, count: int) -> pa.Array:
    """Objects within objects."""
    inner = pa.array(np.zeros(count, np.int8))
    for _ in range(depth):
        inner = pa.StructArray.from_arrays([inner], ["a"])
    return inner


def _numbers(count: int) -> pa.Array:
    return pa.array((np.arange(count) % 30_000).astype(np.int16))


def _of_rows(text: str, rows: int) -> Write:
    """A text of many rows."""
    return parquet(url=repeated(URL, rows), more=repeated(text, rows))


def _of_one_row(text: str) -> Write:
    def write(path: Path) -> None:
        table = pa.table({"url": [URL], "more": [text]})
        pq.write_table(
            table, path, compression="zstd", use_dictionary=False, write_statistics=False
        )

    return write


def _between_small_ones(mib: int) -> Write:
    """Large texts in pages of their own, without compression: the file, Arrow and the row hold each."""

    def write(path: Path) -> None:
        texts = ["a" * mib * MIB, "b"] * 2
        pq.write_table(
            pa.table({"url": [URL] * 4, "more": texts}),
            path,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_batch_size=1,
            data_page_size=1,
        )

    return write


def _with_name(kind: pa.DataType) -> Write:
    """A column of a type with a long name, in many rows."""
    value = {kind.field(0).name: 1} if pa.types.is_struct(kind) else 1
    column = [value] * 4096
    return parquet(url=repeated(URL, 4096), more=pa.array(column, kind))


def _again(write_once: Write, times: int) -> Write:
    def write(path: Path) -> None:
        write_once(path)
        path.write_bytes(repeated_groups(path.read_bytes(), times))

    return write


def repeated_groups(content: bytes, times: int) -> bytes:
    """A file of one row group, whose footer names this group several times."""
    end = len(content) - 8
    footer = content[end - int.from_bytes(content[-8:-4], "little") : end]
    places, reader, number = dict[int, range](), Reader(footer), 0
    while (head := footer[reader.at]) & 15:
        start, reader.at, number = reader.at, reader.at + 1, number + (head >> 4)
        reader._value(head & 15, 0)
        places[number] = range(start, reader.at)
    rows, groups = places[3], places[4]
    total = Reader(footer[rows.start + 1 :])._integer() * times
    changed = footer[: rows.start + 1] + varint(total << 1) + footer[rows.stop : groups.start + 1]
    changed += list_head(times) + footer[groups.start + 2 : groups.stop] * times
    changed += footer[groups.stop :]
    before = content[: end - len(footer)]
    return before + changed + len(changed).to_bytes(4, "little") + b"PAR1"


LARGE_ROWS, LARGE_CAPTION = 12_288, 110_000


def _large_group(path: Path) -> None:
    """One row group with 1.26 GiB of captions."""
    draw, names, batches = random.Random(0), ["url", "caption"], []
    for _ in range(LARGE_ROWS // 64):
        captions = [draw.randbytes(5_000).hex() * (LARGE_CAPTION // 10_000) for _ in range(64)]
        batches.append(pa.record_batch([[URL] * 64, captions], names))
    pq.write_table(
        pa.Table.from_batches(batches),
        path,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    metadata = pq.read_metadata(path)
    assert metadata.num_row_groups == 1
    assert metadata.row_group(0).column(1).total_uncompressed_size > 1.2 * 2**30


PARQUET_BOMBS: dict[str, Bomb] = {
    "a row group of more than a gigabyte": Bomb("parquet", _large_group, None, LARGE_ROWS),
    "nested deep": Bomb("parquet", _lists(_objects(28, 1_000_000), 4096), "expand to more than"),
    "nested objects": Bomb("parquet", _lists(_objects(6, 500_000), 1), "very many parts"),
    "nested objects of many rows": Bomb("parquet", _lists(_objects(6, 500_000), 4096), None, 4096),
    "nested numbers": Bomb("parquet", _lists(_numbers(12_000_000), 1), "memory to read"),
    "nested numbers of many rows": Bomb("parquet", _lists(_numbers(4_000_000), 4096), None, 4096),
    "nested: a long text": Bomb("parquet", _of_one_row("a" * 31 * MIB + FISH), "a value of"),
    "nested: large texts between small ones": Bomb(
        "parquet", _between_small_ones(51), "a value of", 2
    ),
    "nested: larger texts between small ones": Bomb(
        "parquet", _between_small_ones(100), "memory to read"
    ),
    "nested: a few objects deep": Bomb(
        "parquet", _lists(_objects(7, 4_000_000), 65536), "its nested values", 12_288
    ),
    "nested: control characters": Bomb(
        "parquet", _of_one_row("\x01" * 4 * MIB + FISH), "metadata of more than", 1
    ),
    "nested: a long name": Bomb(
        "parquet", _with_name(pa.struct({"n" * MIB: pa.int8()})), "the names of its columns"
    ),
    "nested: a long time zone": Bomb(
        "parquet", _with_name(pa.timestamp("us", tz="Z" * MIB)), "the names of its columns"
    ),
    "nested: texts that are left out": Bomb(
        "parquet", _of_rows("a" * 3 * MIB, 1_000_000), "of text", 85
    ),
    "nested: a row group again and again": Bomb(
        "parquet", _again(_of_one_row("a" * 30 * MIB), 1000), "expand to more than"
    ),
}
"""Where the word `nested` is in its name, it has no caption."""
SLOW_PARQUET = (
    "a row group of more than a gigabyte",
    "nested: a few objects deep",
    "nested objects of many rows",
    "nested numbers of many rows",
    "nested objects",
)
"""What `make nightly` alone reads."""
