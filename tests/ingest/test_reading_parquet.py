"""Parquet in bounded memory: what is read is what Arrow reads, and what is not says so."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curation.media.files import location, parquet_pages, parquet_reading
from curation.media.files.location import FileSystemError, open_local
from curation.media.files.parquet_images import leaves
from curation.media.files.parquet_levels import rows_of
from curation.media.files.parquet_reading import Batch, BoundedParquet, Unread

ROWS = 3_000


def table() -> pa.Table:
    draw = random.Random(1)
    return pa.table(
        {
            "url": [f"http://h{draw.random()}.example/{i}" for i in range(ROWS)],
            "caption": ["word " * draw.randrange(20) + str(i % 100) for i in range(ROWS)],
            "number": list(range(ROWS)),
            "tags": [["a", None, "c"][: i % 4] for i in range(ROWS)],
            "boxes": [[[0.1, 0.2, 0.3, 0.4]] * (i % 3) for i in range(ROWS)],
            "vector": [[0.5, 0.25]] * ROWS,
            "pair": [{"a": i, "b": None if i % 2 else "x"} for i in range(ROWS)],
            "nothing": pa.array([None] * ROWS, pa.int64()),
            "kind": pa.array(["x", "y"] * (ROWS // 2)).dictionary_encode(),
            "hash": pa.array([b"abc"] * ROWS, pa.binary(3)),
        }
    )


def read(content: bytes, rows: int = 4096) -> tuple[pa.Table | None, list[Unread]]:
    bounded = BoundedParquet(pa.BufferReader(content))
    schema = bounded.file.schema_arrow
    wanted = [leaf for place in range(len(schema)) for leaf in leaves(schema, place)]
    parts = list(bounded.batches(wanted, rows))
    batches = [part.rows for part in parts if isinstance(part, Batch)]
    unread = [part for part in parts if isinstance(part, Unread)]
    at = 0
    for part in parts:
        assert part.start == at
        at += part.rows if isinstance(part, Unread) else part.rows.num_rows
    assert at == bounded.group_starts[-1]
    return (pa.Table.from_batches(batches) if batches else None), unread


WRITTEN: list[dict[str, Any]] = [
    {},
    {"compression": "zstd", "row_group_size": 3000},
    {"compression": "none", "data_page_version": "2.0", "data_page_size": 4000},
    {"compression": "gzip", "data_page_size": 2000, "write_page_index": True},
    {"compression": "brotli", "use_dictionary": False},
    {"compression": "lz4", "dictionary_pagesize_limit": 2000},
    {
        "use_dictionary": False,
        "column_encoding": {"url": "DELTA_BYTE_ARRAY", "caption": "DELTA_LENGTH_BYTE_ARRAY"},
    },
]


@pytest.mark.parametrize("batch_bytes", [16 << 20, 20_000])
@pytest.mark.parametrize("options", WRITTEN)
def test_whatever_way_a_file_is_written_all_rows_are_read(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], batch_bytes: int
) -> None:
    monkeypatch.setattr(parquet_reading, "BATCH_BYTES", batch_bytes)
    out = io.BytesIO()
    pq.write_table(table(), out, **options)
    tables, unread = read(out.getvalue())
    assert unread == [] and tables is not None
    assert tables.to_pydict() == table().to_pydict()


def test_rows_of_large_values_are_read_a_few_at_a_time() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"image": [os.urandom(1 << 20) for _ in range(40)]}), out)
    bounded = BoundedParquet(pa.BufferReader(out.getvalue()))
    sizes = [part.rows.num_rows for part in bounded.batches([0], 64) if isinstance(part, Batch)]
    assert sum(sizes) == 40 and max(sizes) <= 16


def test_a_row_group_that_is_too_large_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_reading, "PARQUET_BYTES", 300_000)
    out = io.BytesIO()
    values = ["a", "b", "c" * 200_000, "d", "e", "f"]
    pq.write_table(pa.table({"x": values}), out, row_group_size=2)
    tables, (unread,) = read(out.getvalue())
    assert tables is not None and tables["x"].to_pylist() == ["a", "b", "e", "f"]
    assert (unread.start, unread.rows, unread.is_damaged) == (2, 2, False)


LEVELS = st.lists(st.integers(0, 2), min_size=1, max_size=300)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.none() | st.text("ab", max_size=40), max_size=700),
    lists=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
            "compression": st.sampled_from(["none", "snappy", "zstd"]),
            "data_page_size": st.sampled_from([64, 4096, 1 << 20]),
        }
    ),
    encoding=st.sampled_from(["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"]),
)
def test_texts_in_delta_encodings_are_read(
    texts: list[str | None], lists: bool, options: dict[str, Any], encoding: str
) -> None:
    values = [None if t is None else [t, None, t] for t in texts] if lists else texts
    kind = pa.list_(pa.string()) if lists else pa.string()
    leaf = "t.list.element" if lists else "t"
    whole, out = pa.table({"t": pa.array(values, kind)}), io.BytesIO()
    pq.write_table(
        whole,
        out,
        use_dictionary=False,
        column_encoding={leaf: encoding},
        write_batch_size=8,
        **options,
    )
    # Of some lists in pages of a few bytes, Arrow reads no row at all.
    by_arrow = pq.ParquetFile(io.BytesIO(out.getvalue())).iter_batches()
    assume(sum(batch.num_rows for batch in by_arrow) == len(values))
    found, unread = read(out.getvalue())
    assert unread == []
    assert (found.column(0).to_pylist() if found is not None else []) == values


def test_pages_that_are_named_again_and_again_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_reading, "PARQUET_PAGES", 0)
    out = io.BytesIO()
    numbers = pa.table({"n": pa.array(range(300), pa.int64())})
    pq.write_table(numbers, out, data_page_size=1, write_batch_size=1, use_dictionary=False)
    bounded = BoundedParquet(pa.BufferReader(out.getvalue()))
    times = [list(bounded.batches([0], 4096)) for _ in range(40)]
    whole = [all(isinstance(part, Batch) for part in parts) for parts in times]
    assert all(whole[:4]) and not whole[-1]
    (last,) = times[-1]
    assert isinstance(last, Unread) and "more pages" in last.problem and not last.is_damaged


def test_a_column_of_very_many_pages_costs_its_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_pages, "PARQUET_PAGES", 100)
    for rows, is_read in ((100, True), (101, False)):
        out = io.BytesIO()
        numbers = pa.table({"n": pa.array(range(rows), pa.int64())})
        pq.write_table(numbers, out, data_page_size=1, write_batch_size=1, use_dictionary=False)
        bounded = BoundedParquet(pa.BufferReader(out.getvalue()))
        parts = list(bounded.batches([0], 4096))
        assert all(isinstance(part, Batch) for part in parts) == is_read
        if not is_read:
            (part,) = parts
            assert isinstance(part, Unread) and "more than 100 pages" in part.problem


def encoded(levels: list[int], width: int) -> bytes:
    """Levels as runs and packed bits in turn."""
    out, at = b"", 0
    while at < len(levels):
        run = next((i for i in range(at, len(levels)) if levels[i] != levels[at]), len(levels)) - at
        if run >= 8:
            out += bytes([run << 1 & 127 | 128, run >> 6 & 127 | 128, run >> 13, levels[at]])
            at += run
            continue
        part = (levels[at : at + 8] + [0] * 8)[:8]
        bits = sum(level << (width * i) for i, level in enumerate(part))
        out += bytes([1 << 1 | 1]) + bits.to_bytes(width, "little")
        at += 8
    return out


@settings(max_examples=200, deadline=None)
@given(levels=LEVELS, repeat=st.integers(1, 30), before=st.integers(0, 5))
def test_rows_of_nested_columns_are_counted(levels: list[int], repeat: int, before: int) -> None:
    levels = [level for level in levels for _ in range(repeat)]
    rows = rows_of(encoded(levels, 2), len(levels), 2, before)
    starts = [i for i, level in enumerate(levels) if level == 0]
    assert rows.number == len(starts)
    ends = [*starts[1:], len(levels)] if starts else []
    lengths = [before + (starts[0] if starts else len(levels))]
    lengths += [end - start for start, end in zip(starts, ends, strict=True)]
    assert rows.longest == max(before, *lengths)
    assert rows.open == lengths[-1]


class Failing:
    """A disk that fails after some bytes."""

    def __init__(self, path: Path, after: int) -> None:
        self._file = path.open("rb")
        self._left = after
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

    @property
    def closed(self) -> bool:
        return self._file.closed

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise OSError(5, "the disk has failed")
        return content


@pytest.mark.parametrize("after", [50, 20_000, 60_000, 150_000])
def test_a_disk_that_fails_is_no_damage(tmp_path: Path, after: int) -> None:
    path = tmp_path / "l.parquet"
    column = pa.array(os.urandom(8) for _ in range(50_000))
    pq.write_table(pa.table({"x": column}), path, row_group_size=10_000)
    stream = location._watched(Failing(path, after))
    with pytest.raises(FileSystemError):
        list(BoundedParquet(stream).batches([0], 1000))
    assert (
        sum(
            p.rows.num_rows
            for p in BoundedParquet(open_local(str(path))).batches([0], 1000)
            if isinstance(p, Batch)
        )
        == 50_000
    )


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_many_pictures_in_one_large_page_are_read(compression: str) -> None:
    """The datasets library writes pages of a hundred pictures: all together are not in memory twice."""
    draw = np.random.default_rng(0)
    pictures = [draw.bytes(720 * 1024) for _ in range(100)]
    out = io.BytesIO()
    table = pa.table({"image": pa.array(pictures, pa.binary())})
    pq.write_table(table, out, compression=compression, use_dictionary=False)
    parts = list(BoundedParquet(pa.BufferReader(out.getvalue())).batches([0], 64))
    read = [row for p in parts if isinstance(p, Batch) for row in p.rows.column(0).to_pylist()]
    assert read == pictures
