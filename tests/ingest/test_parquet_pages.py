"""Headers of pages: what they say is checked before Arrow, or anything else, trusts it."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.media.files import parquet_pages, parquet_reading
from curation.media.files.limits import EXPANSION_BYTES, EXPANSION_RATIO
from curation.media.files.location import open_local
from curation.media.files.parquet_footer import TooLargeError
from curation.media.files.parquet_pages import Budget, Budgets, read_chunk
from curation.media.files.parquet_reading import Batch, BoundedParquet, Unread
from curation.media.files.thrift import Reader, ThriftError
from tests.ingest.bombs import varint
from tests.ingest.parquet_bombs import repeated_groups

ROWS = 50
INDEX, DATA, DICTIONARY, DATA_V2 = 1, 0, 2, 3


def written(**options: Any) -> bytes:
    out = io.BytesIO()
    columns = {
        "url": [f"http://a.example/{i}" for i in range(ROWS)],
        "n": [[i] for i in range(ROWS)],
    }
    pq.write_table(pa.table(columns), out, compression="none", **options)
    return out.getvalue()


def headers(content: bytes) -> list[range]:
    """The places of all headers of pages."""
    places = []
    group = pq.read_metadata(io.BytesIO(content)).row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        at = column.dictionary_page_offset or column.data_page_offset
        end = at + column.total_compressed_size
        while at < end:
            reader = Reader(content[at:])
            header = reader.struct()
            places.append(range(at, at + reader.at))
            at += reader.at + header[3]
    return places


@pytest.mark.parametrize(
    "options", [{}, {"data_page_version": "2.0", "use_dictionary": False}], ids=["v1", "v2"]
)
def test_headers_with_values_of_any_kind_cost_their_row_group_alone(
    options: dict[str, Any],
) -> None:
    content = written(**options)
    for place in (place for header in headers(content) for place in header):
        for kind in range(16):
            changed = bytearray(content)
            changed[place] = changed[place] & 0xF0 | kind
            parts = list(BoundedParquet(pa.BufferReader(bytes(changed))).batches([0, 1], 4096))
            rows = sum(p.rows if isinstance(p, Unread) else p.rows.num_rows for p in parts)
            assert rows == ROWS, (place, kind)


def header(kind: int, size: int, packed: int, field: int, values: int) -> bytes:
    """The header of a page with one structure more, of a kind that its field tells."""

    def i32(number: int) -> bytes:
        return b"\x15" + varint(number << 1)

    inner = i32(values) + i32(0) + i32(3) + i32(3)
    return i32(kind) + i32(size) + i32(packed) + bytes([field - 3 << 4 | 12]) + inner + b"\0\0"


def chunk(content: bytes, values: int) -> SimpleNamespace:
    return SimpleNamespace(
        data_page_offset=0,
        has_dictionary_page=False,
        total_compressed_size=len(content),
        num_values=values,
        compression="ZSTD",
        physical_type="BYTE_ARRAY",
    )


def budgets(headers: int = 1000, unpacked: int = 1 << 30) -> Budgets:
    return Budgets(Budget(headers, "too many headers"), Budget(unpacked, "too many bytes"))


def chunk_of(content: bytes, values: int, left: Budgets) -> parquet_pages.Chunk:
    return read_chunk(io.BytesIO(content), chunk(content, values), (0, 0), left)


@pytest.mark.parametrize(
    ("kind", "field"),
    [(INDEX, 5), (INDEX, 8), (DATA, 8), (DATA_V2, 5), (DICTIONARY, 5), (7, 5)],
)
def test_a_page_does_not_stand_for_one_of_another_kind(kind: int, field: int) -> None:
    """Arrow passes it over, and reads the page behind it, which nobody has looked at."""
    content = header(kind, 0, 0, field, 100) + header(DATA, 1 << 31, 10, 5, 100)
    with pytest.raises((ThriftError, TooLargeError)):
        chunk_of(content, 100, budgets())


def test_budgets_are_spent_also_by_what_is_refused() -> None:
    left, content = budgets(3), header(DATA, 0, 0, 5, 1) * 3
    assert len(chunk_of(content, 3, left).pages) == 3
    for _ in range(2):
        with pytest.raises(TooLargeError, match="too many headers"):
            chunk_of(content, 3, left)
    left = budgets(unpacked=100)
    for _ in range(2):
        with pytest.raises(TooLargeError, match="too many bytes"):
            chunk_of(header(DATA, 200, 0, 5, 1), 1, left)


def test_long_headers_count_as_several() -> None:
    # A field that nobody knows, with a thousand structures.
    content = b"\x9c" + b"\x19\xfc" + varint(1000) + b"\0" * 1000 + b"\0"
    content = header(DATA, 0, 0, 5, 1)[:-1] + content + b"\0"
    with pytest.raises(TooLargeError, match="too many headers"):
        chunk_of(content, 1, budgets(10))


def test_entries_of_a_dictionary_are_looked_at_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet_pages, "PARQUET_ENTRIES", 100)
    texts = [f"{i:06d}" for i in range(1000)]
    out = io.BytesIO()
    pq.write_table(pa.table({"x": texts}), out, compression="none")
    column = pq.read_metadata(out).row_group(0).column(0)
    found = read_chunk(out, column, (0, 1), budgets())
    assert found.dictionary == 10_000 and found.entry == 9000


def test_a_page_with_more_values_than_any_has_is_refused() -> None:
    with pytest.raises(TooLargeError, match="values"):
        chunk_of(header(DATA, 0, 0, 5, 1 << 27), 1 << 27, budgets())


def test_pages_may_expand_as_far_as_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_reading, "EXPANSION_BYTES", 100_000)
    monkeypatch.setattr(parquet_reading, "EXPANSION_RATIO", 10)
    out = io.BytesIO()
    table = pa.table({"x": ["a" * 40_000]})
    pq.write_table(table, out, compression="zstd", use_dictionary=False, write_statistics=False)
    content = repeated_groups(out.getvalue(), 20)
    most = 100_000 + 10 * len(content)
    for _ in range(2):
        parts = list(BoundedParquet(pa.BufferReader(content)).batches([0], 10))
        read = [part for part in parts if isinstance(part, Batch)]
        assert 0 < len(read) <= most // 40_000 < len(parts) == 20
        (problem,) = {part.problem.partition(": ")[2] for part in parts if isinstance(part, Unread)}
        assert "expand" in problem


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (pa.struct({"n" * 5000: pa.int8()}), "the name of a column"),
        (pa.list_(pa.struct({"a": pa.struct({"n" * 5000: pa.int8()})})), "the name of a column"),
        (pa.timestamp("us", tz="Z" * 5000), "the name of a column or type"),
        (pa.list_(pa.timestamp("us", tz="Z" * 5000)), "the name of a column or type"),
        (pa.struct({f"{i:04d}" * 900: pa.int8() for i in range(400)}), "the names of its columns"),
    ],
)
def test_names_that_rows_would_repeat_are_bounded(kind: pa.DataType, problem: str) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"x": pa.array([None], kind)}), out)
    with pytest.raises(TooLargeError, match=problem):
        BoundedParquet(pa.BufferReader(out.getvalue()))


@pytest.mark.parametrize("hole", [0, 2**40])
def test_holes_of_a_file_are_no_bytes_of_it(tmp_path: Path, hole: int) -> None:
    """A download that reserves its place leaves them. How much is read depends on the size."""
    content = written()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    path = tmp_path / "sparse.parquet"
    with path.open("wb") as file:
        file.write(content[:-footer])
        file.seek(hole, 1)
        file.write(content[-footer:])
    with open_local(str(path)) as stream:
        bounded = BoundedParquet(stream)
        assert sum(p.rows.num_rows for p in bounded.batches([0], 9) if isinstance(p, Batch)) == ROWS
    assert bounded.most_bytes < EXPANSION_BYTES + EXPANSION_RATIO * 2**22
